"""Conversations with both services, as users run them."""

from __future__ import annotations

import time
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.guests import AI_SETS, IM_SETS, STORY, Guest, ServiceCase, new_identity
from tests.rawsocket import BINARY, TEXT, Frame, RawSocket
from tests.services import (
    Pair,
    get,
    shared,
)
from xiaozhi.device import events as e
from xiaozhi.device.network.ota import Flavour
from xiaozhi.device.sound.voice import Voice, thread_offload
from xiaozhi.testing.house import SPEECH
from xiaozhi.wire.jsontext import JsonDialect
from xiaozhi.wire.messages import ListenMode


class TalkTests(ServiceCase, TestCase):
    """Conversations, with providers that answer at once."""

    def setUp(self) -> None:
        self.pair = shared(IM_SETS, AI_SETS)

    def tearDown(self) -> None:
        self.assert_clean(self.pair)

    async def test_modes(self) -> None:
        """One device in each mode, each with another framing, at the same time."""
        await gatherResults(
            [
                Deferred.fromCoroutine(self.talk_twice(mode, framing, listens))
                for mode, framing, listens in (
                    (ListenMode.AUTO, 1, 3),
                    (ListenMode.MANUAL, 3, 2),
                    # §9.8: one ``listen start`` for the whole conversation.
                    (ListenMode.REALTIME, 2, 1),
                )
            ],
            consumeErrors=True,
        )

    async def talk_twice(self, mode: ListenMode, framing: int, listens: int) -> None:
        """Ask twice.

        :param listens: number of ``listen start`` messages.
        """
        guest = await self.guest(self.pair, mode=mode, framing=framing)
        for _ in range(2):
            answer = await guest.device.say(SPEECH)
            self.assertEqual((answer.heard, answer.text), ("hello", "All right."))
            self.assertEqual((answer.tts_starts, answer.tts_stops), (1, 1))
            self.assertEqual((answer.dropped, answer.errors), (0, ()))
            self.assertTrue(200 <= answer.audio_ms <= 500, answer.audio_ms)
        manual = mode is ListenMode.MANUAL
        state = e.TalkState.IDLE if manual else e.TalkState.LISTENING
        self.assertEqual(guest.device.machine.state, state)
        self.assertEqual(len(guest.seen(e.ListeningStarted)), listens)
        self.assertEqual(guest.device.answers.strays, 0)
        self.assertEqual(guest.seen(e.Trouble), [])

    async def test_realtime_interruption(self) -> None:
        guest = await self.guest(self.pair, mode=ListenMode.REALTIME)
        await guest.device.listen()
        story = guest.device.text("a story")
        await self.until(lambda: len(guest.seen(e.PacketPlayed)) > 5, "the story")
        answer = await guest.device.say(SPEECH)
        self.assertEqual((answer.heard, answer.text), ("hello", "All right."))
        told = await story
        self.assertEqual((told.tts_starts, told.tts_stops), (1, 1))
        self.assertLess(told.audio_ms, 20 * len(STORY) / 2)

    async def test_from_ota(self) -> None:
        """The start of every device: configuration, connection, a question."""
        await gatherResults(
            [Deferred.fromCoroutine(self.start_with(flavour)) for flavour in Flavour],
            consumeErrors=True,
        )

    async def start_with(self, flavour: Flavour) -> None:
        guest = Guest(new_identity())
        self.addCleanup(guest.device.close)
        boot = await guest.device.boot(self.pair.ota, flavour)
        assert boot.endpoint is not None
        self.assertLess(abs(boot.server_time_ms / 1000 - time.time()), 5)
        self.assertEqual(boot.endpoint.url, f"ws://127.0.0.1:{self.pair.edge_port}/xiaozhi/v1/")
        opened = await guest.device.connect(boot.endpoint)
        self.assertLess(opened.hello, 2)
        self.assertEqual((await guest.device.say(SPEECH)).heard, "hello")
        self.assertNotIn(boot.endpoint.token, self.pair.output)

    async def test_typed_in_the_other_dialect(self) -> None:
        guest = await self.guest(self.pair, dialect=JsonDialect.ENVELOPED)
        answer = await guest.device.text("how are you")
        self.assertEqual((answer.heard, answer.text), ("how are you", "All right."))
        self.assertEqual(guest.seen(e.Trouble), [])

    async def test_tool_on_the_device(self) -> None:
        guest = await self.guest(self.pair)
        answer = await guest.device.text("not so loud")
        self.assertEqual(guest.device.panel.volume, 33)
        (call,) = answer.tools
        self.assertEqual((call.name, call.failed), ("self.audio_speaker.set_volume", False))

    async def test_tool_on_the_server(self) -> None:
        guest = await self.guest(self.pair)
        answer = await guest.device.text("what does the clock say")
        self.assertEqual(answer.tools, ())
        self.assertRegex(answer.text, r'"time": ?"[0-2]\d:[0-5]\d"')

    async def test_photo(self) -> None:
        """The device uploads with the token from ``initialize`` to the address from which it
        requested its configuration.
        """
        guest = Guest(new_identity())
        self.addCleanup(guest.device.close)
        boot = await guest.device.boot(self.pair.ota)
        assert boot.endpoint is not None
        await guest.device.connect(boot.endpoint)
        answer = await guest.device.text("what do you see")
        (call,) = answer.tools
        self.assertEqual((call.name, call.failed), ("self.camera.take_photo", False), call)
        self.assertIn("A small square.", call.result)
        self.assertIn("A small square.", answer.text)
        token = guest.device.mcp.vision.token
        self.assertTrue(token)
        self.assertNotIn(token, self.pair.output)

    async def test_twenty_at_once(self) -> None:
        guests = await gatherResults(
            [Deferred.fromCoroutine(self.guest(self.pair)) for _ in range(20)]
        )
        status, health = await deferToThread(get, self.pair.edge_port, "/health")
        self.assertEqual((status, health["connections"]), (200, 20))
        answers = await gatherResults([guest.device.say(SPEECH) for guest in guests])
        for answer in answers:
            self.assertEqual((answer.heard, answer.text), ("hello", "All right."))
            self.assertEqual((answer.tts_starts, answer.tts_stops, answer.dropped), (1, 1, 0))
        await gatherResults([guest.device.close() for guest in guests])
        await self.until(lambda: self.pair.im.wait_for()["connections"] == 0, "all are gone")

    def test_abort_on_the_wire(self) -> None:
        """§4.6, §9.2, §9.7: one stop, and silence after it."""
        socket = self.raw(self.pair, "aa:00:00:00:00:01")
        socket.hello()
        asked = time.monotonic()
        socket.text(type="listen", state="detect", text="a story")
        for _ in range(5):
            socket.until(lambda frame: frame.opcode == BINARY)
        # The most that can have been sent: three packets ahead of the one being played.
        sent = (time.monotonic() - asked) / 0.06 + 4
        socket.text(type="abort")
        before = []
        while True:
            frame = socket.receive()
            if frame.opcode == TEXT and frame.json.get("state") == "stop":
                break
            before.append(frame)
        # And some more until the edge reads the abort.
        self.assertLess(5 + sum(frame.opcode == BINARY for frame in before), sent + 4)
        self.assertEqual(socket.for_a_while(0.6), [])
        # The connection still works.
        socket.text(type="listen", state="detect", text="hi")
        self.assertEqual(socket.until_text("stt")["text"], "hi")
        kinds = [self.kind(frame) for frame in self.to_the_stop(socket)]
        self.assertEqual(kinds[0], "tts start")
        self.assertEqual([kind for kind in kinds if kind == "tts stop"], ["tts stop"])
        self.assertLess(kinds.index("tts start"), kinds.index("audio"))

    def to_the_stop(self, socket: RawSocket) -> list[Frame]:
        frames: list[Frame] = []
        while not frames or self.kind(frames[-1]) != "tts stop":
            frames.append(socket.receive())
        return frames

    def kind(self, frame: Frame) -> str:
        if frame.opcode != TEXT:
            return "audio"
        return f"{frame.json['type']} {frame.json.get('state', '')}".rstrip()

    def test_newest_connection_wins(self) -> None:
        """§9.22, §9.23."""
        older = self.raw(self.pair, "aa:00:00:00:00:02")
        older.hello()
        newer = self.raw(self.pair, "aa:00:00:00:00:02")
        newer.hello()
        self.assertEqual(older.until_close(), (4001, "replaced"))
        newer.text(type="listen", state="detect", text="hi")
        self.assertGreater(len(self.to_the_stop(newer)), 3)

    def test_mid_answer_replacement(self) -> None:
        """The old answer does not reach the new connection."""
        older = self.raw(self.pair, "aa:00:00:00:00:03")
        older.hello()
        older.text(type="listen", state="detect", text="a story")
        older.until(lambda frame: frame.opcode == BINARY)
        newer = self.raw(self.pair, "aa:00:00:00:00:03")
        newer.hello()
        frames = newer.for_a_while(0.5)
        self.assertLessEqual({self.kind(frame) for frame in frames}, {"mcp"})

    def test_pages(self) -> None:
        port = self.pair.edge_port
        status, health = get(port, "/health")
        self.assertEqual(status, 200)
        self.assertEqual((health["status"], health["grpc_status"]), ("healthy", "connected"))
        self.assertIsInstance(health["connections"], int)
        self.assertEqual(get(port, "/ready"), (200, {"status": "ready"}))
        status, alive = get(port, "/alive")
        self.assertEqual((status, alive["status"]), (200, "alive"))
        self.assertEqual(get(port, "/nothing")[0], 404)
        self.assertEqual(get(port, "/ws")[0], 426)
        status, health = get(self.pair.http_port, "/health")
        self.assertEqual((status, health["status"]), (200, "healthy"))


class SpeechTests(ServiceCase, TestCase):
    """Real speech: espeak-ng talks to pocketsphinx and back."""

    async def test_offline_providers(self) -> None:
        pair = await deferToThread(lambda: Pair(IM_SETS, ()).start())
        self.addCleanup(pair.end)
        voice = Voice(reactor, thread_offload(reactor))
        self.addCleanup(voice.close)
        guest = await self.guest(pair)
        answer = await guest.device.say(await voice.of_text("set the volume to thirty"))
        self.assertEqual(answer.heard, "set the volume to thirty")
        self.assertGreater(answer.audio_ms, 400)
        self.assertEqual((answer.tts_starts, answer.tts_stops, answer.dropped), (1, 1, 0))
        self.assertEqual(guest.device.panel.volume, 30)
        self.assert_clean(pair)
        if Path("/proc/self").is_dir():
            self.assertGreater(len(pair.ai.children()), 1, "the engines are children")
            await deferToThread(pair.ai.kill)
            # They notice by themselves that the parent is gone.
            await self.until(lambda: not pair.ai.children(), "children end", 5)
