"""The vocabulary: :mod:`xiaozhi.wire.messages`."""

from __future__ import annotations

import typing
from dataclasses import FrozenInstanceError, fields, is_dataclass

from hypothesis import Phase, given, settings
from hypothesis.strategies import SearchStrategy
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.testing import wire
from xiaozhi.wire import messages as m


def _drawn(strategy: SearchStrategy[object]) -> set[type]:
    """The types of what a strategy draws, the same each time."""
    kinds: set[type] = set()

    @settings(database=None, derandomize=True, max_examples=200, phases=[Phase.generate])
    @given(strategy)
    def note(message: object) -> None:
        kinds.add(type(message))

    note()
    return kinds


class VocabularyTests(SynchronousTestCase):
    kinds = {
        *typing.get_args(m.Uplink),
        *typing.get_args(m.Downlink),
        *typing.get_args(m.DeviceText),
        *typing.get_args(m.ServerText),
        m.SessionOpen,
        m.SessionClose,
    }

    def test_frozen_but_for_audio(self) -> None:
        for kind in self.kinds - {m.Audio}:
            self.assertTrue(is_dataclass(kind), kind)
            names = [field.name for field in fields(kind)]
            if names:
                blank = object.__new__(kind)
                with self.assertRaises(FrozenInstanceError):
                    setattr(blank, names[0], None)

    def test_slots(self) -> None:
        for kind in self.kinds:
            self.assertFalse(hasattr(object.__new__(kind), "__dict__"), kind)

    def test_every_device_message_but_hello_goes_up(self) -> None:
        device, up = set(typing.get_args(m.DeviceText)), set(typing.get_args(m.Uplink))
        self.assertEqual(device - up, {m.Hello})
        server, down = set(typing.get_args(m.ServerText)), set(typing.get_args(m.Downlink))
        self.assertEqual(server - down, {m.ServerHello})

    def test_each_is_drawn(self) -> None:
        """The property tests send every message through every form."""
        for union, strategy in (
            (m.Uplink, wire.uplinks),
            (m.Downlink, wire.downlinks),
            (m.DeviceText, wire.device_texts),
            (m.ServerText, wire.server_texts),
        ):
            self.assertEqual(_drawn(strategy), set(typing.get_args(union)))

    def test_emotions(self) -> None:
        self.assertEqual(len(m.EMOTIONS), 21)
        self.assertIn("neutral", m.EMOTIONS)
