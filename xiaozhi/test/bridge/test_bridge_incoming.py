"""Receive side of a session: counts, acknowledgements, credit."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.bridge.delivery.incoming import Incoming
from xiaozhi.bridge.items import receipt


class IncomingTests(SynchronousTestCase):
    def test_a_receipt_grants_received_packets_and_the_credit(self) -> None:
        incoming = Incoming(16)
        self.assertFalse(incoming.owes)
        for sequence in (1, 2, 3):
            incoming.received = sequence
            incoming.audio()
        self.assertTrue(incoming.owes)
        self.assertEqual(incoming.receipt(), receipt(3, 3 + 16))
        self.assertFalse(incoming.owes)

    def test_credit_is_granted_at_every_eighth(self) -> None:
        # Credit, and the packets after which a receipt is due soon.
        for credit, told in ((16, [2, 4, 6]), (80, [10, 20, 30]), (7, [1, 2, 3]), (0, [1, 2, 3])):
            incoming = Incoming(credit)
            soon = []
            for number in range(1, 40):
                if incoming.audio():
                    soon.append(number)
                    incoming.receipt()
            self.assertEqual(soon[:3], told, credit)

    def test_paused_grants_nothing(self) -> None:
        incoming = Incoming(16)
        incoming.received = 5
        incoming.audio()
        incoming.paused = True
        self.assertEqual(incoming.receipt(), receipt(5, 0))
        incoming.paused = False
        self.assertEqual(incoming.receipt(), receipt(5, 17))

    def test_skipped_messages_count_as_audio(self) -> None:
        incoming = Incoming(16)
        incoming.received = 10
        for sequence, received, credit in ((14, 14, 20), (14, 14, 20), (3, 14, 20), (15, 15, 21)):
            incoming.skipped(sequence)
            self.assertEqual(incoming.receipt(), receipt(received, credit), sequence)

    def test_the_count_restarts(self) -> None:
        incoming = Incoming(16)
        incoming.audio()
        incoming.begin(7)
        self.assertFalse(incoming.owes)
        self.assertEqual(incoming.receipt(), receipt(7, 16))
        # Earlier packets do not bring the next receipt nearer.
        incoming.audio()
        incoming.begin()
        self.assertFalse(incoming.audio())
        self.assertEqual(incoming.receipt(), receipt(0, 17))
