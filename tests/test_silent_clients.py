"""Clients that do not say hello, over real sockets: an answer, and a close in time."""

from __future__ import annotations

import time
from collections.abc import Callable

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.guests import ServiceCase, new_identity
from tests.rawsocket import BINARY, CLOSE, PING, TEXT, RawSocket
from tests.services import shared

# Seconds; the edge checks every quarter of a second, and answers early sound after 2.
HELLO = 3.5
SETS = (f"link.hello_timeout={HELLO}", "link.close_timeout=0.1", "gateway.device_burst=1000")

# The client's action instead of a hello, and the code of the answer, if any.
CLIENTS: tuple[tuple[Callable[[RawSocket], None], str], ...] = (
    (lambda raw: None, ""),
    (lambda raw: raw.send(PING, b"still here"), ""),
    (lambda raw: raw.send(BINARY, b"\x58opus"), "hello_first"),
    (lambda raw: raw.send(BINARY, b"\x58opus", 20), "hello_first"),
    (lambda raw: raw.text(type="listen", state="start", mode="auto"), "hello_first"),
    (lambda raw: raw.text(type="ping"), "hello_first"),
)


class SilentClientTests(ServiceCase, TestCase):
    async def test_answered_and_closed(self) -> None:
        pair = await deferToThread(shared, SETS)
        for behave, code in CLIENTS:
            raw = await deferToThread(self.raw, pair, new_identity().device_id)
            began = time.monotonic()
            await deferToThread(behave, raw)
            answers = []
            while (frame := await deferToThread(raw.receive)).opcode != CLOSE:
                if frame.opcode == TEXT:
                    answers.append(frame.json["code"])
            self.assertEqual(frame.close, (1008, "hello_timeout"))
            self.assertEqual(answers, [code] if code else [])
            # Not earlier; how much later depends on the machine.
            self.assertGreater(time.monotonic() - began, HELLO - 0.5)
