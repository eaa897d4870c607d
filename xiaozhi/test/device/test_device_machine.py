"""States and protocol of the device: :mod:`xiaozhi.device.firmware.machine`."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.device import events as e
from xiaozhi.device.client import DeviceParts, SoftDevice
from xiaozhi.device.errors import DeviceError
from xiaozhi.device.events import TalkState
from xiaozhi.device.firmware.machine import MIC_QUEUE, MachineSettings
from xiaozhi.device.firmware.mainloop import MAX_WAITING
from xiaozhi.device.firmware.mcp import SimulatedTool, Value
from xiaozhi.wire.frames import codec
from xiaozhi.wire.jsontext import JsonDialect
from xiaozhi.wire.messages import Audio, ListenMode

# The head of an Opus packet of 60 ms, and of one of 20 ms.
SIXTY, TWENTY = b"\x18", b"\x08"
SPEECH = b"\xe8\x03" * 960 * 5


class FakeWire:
    def __init__(self) -> None:
        self.texts: list[dict[str, Any]] = []
        self.binaries: list[bytes] = []
        self.dropped = False
        # Texts, and "audio" for runs of binaries, in order.
        self.order: list[str] = []

    def send_text(self, text: str) -> None:
        message = json.loads(text)
        self.texts.append(message)
        message = message | message.get("data", {})
        self.order.append(" ".join([message["type"], message.get("state", "")]).strip())

    def send_binary(self, data: bytes) -> None:
        self.binaries.append(data)
        if self.order[-1:] != ["audio"]:
            self.order.append("audio")

    def drop(self) -> None:
        self.dropped = True


class DeviceCase(SynchronousTestCase):
    def make(self, mode: str = "auto", hello: bool = True, **settings: Any) -> None:
        self.clock = Clock()
        self.events: list[e.Event] = []
        self.slow: Deferred[Value] = Deferred()
        self.device = SoftDevice(
            self.clock,
            MachineSettings(mode=ListenMode(mode), **settings),
            parts=DeviceParts(encode=lambda pcm: SIXTY + pcm[:4], random=Random(1)),
            tools=[SimulatedTool("self.slow", "Takes its time.", self.run_slow)],
            watch=self.events.append,
        )
        self.machine = self.device.machine
        self.connect(hello)

    def connect(self, hello: bool = True) -> None:
        self.wire = FakeWire()
        self.greeted = self.device.attach(self.wire)
        if hello:
            self.hello()
            self.successResultOf(self.greeted)
            self.wire.order.clear()

    async def run_slow(self, _: dict[str, Value]) -> Value:
        return await self.slow

    def hello(self, **members: Any) -> None:
        self.send(**{"type": "hello", "transport": "websocket", "session_id": "s-1"} | members)

    def send(self, **message: Any) -> None:
        self.machine.text_received(json.dumps(message))

    def tts(self, state: str, **members: Any) -> None:
        self.send(type="tts", state=state, **members)

    def call(self, tool: str, number: int = 1) -> None:
        params = {"name": tool}
        payload = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
        self.send(type="mcp", payload=payload)

    def audio(self, count: int = 1, head: bytes = SIXTY) -> None:
        for _ in range(count):
            self.machine.binary_received(head + b"xyz")

    def wait(self, seconds: float) -> None:
        self.clock.pump([0.01] * round(seconds * 100))

    def troubles(self) -> list[str]:
        return [event.code for event in self.events if isinstance(event, e.Trouble)]

    def assert_state(self, state: TalkState) -> None:
        self.assertIs(self.machine.state, state)


class HelloTests(DeviceCase):
    def test_hello(self) -> None:
        self.make(hello=False, framing=2)
        self.assertEqual(
            self.wire.texts,
            [
                {
                    "type": "hello",
                    "version": 2,
                    "transport": "websocket",
                    "features": {"mcp": True},
                    "audio_params": {
                        "format": "opus",
                        "sample_rate": 16000,
                        "channels": 1,
                        "frame_duration": 60,
                    },
                }
            ],
        )
        self.assert_state(TalkState.CONNECTING)
        self.hello()
        self.successResultOf(self.greeted)
        self.assert_state(TalkState.IDLE)
        self.device.text("hi")
        self.assertEqual(self.wire.texts[-1]["session_id"], "s-1")

    def test_no_hello_in_time(self) -> None:
        self.make(hello=False)
        self.clock.advance(9.9)
        self.assertNoResult(self.greeted)
        self.clock.advance(0.2)
        error = self.failureResultOf(self.greeted, DeviceError).value
        self.assertEqual(error.code, "no_hello")
        self.assert_state(TalkState.IDLE)
        # The socket is left open.
        self.assertFalse(self.wire.dropped)

    def test_hello_without_transport_crashes(self) -> None:
        self.make(hello=False)
        self.send(type="hello", session_id="s")
        self.assertEqual(self.failureResultOf(self.greeted, DeviceError).value.code, "crash")
        self.assertTrue(self.wire.dropped)

    def test_hello_of_another_transport_is_ignored(self) -> None:
        self.make(hello=False)
        self.hello(transport="udp")
        self.assertNoResult(self.greeted)
        self.device.close()
        self.failureResultOf(self.greeted, DeviceError)

    def test_messages_before_hello_wait(self) -> None:
        self.make(hello=False)
        self.call("self.get_device_status")
        self.assertEqual(len(self.wire.texts), 1)
        self.hello()
        self.assertEqual([t["type"] for t in self.wire.texts], ["hello", "mcp"])

    def test_a_second_hello(self) -> None:
        self.make()
        self.hello(session_id="other")
        self.assertEqual(self.troubles(), ["ignored"])
        self.assertEqual(self.machine.session_id, "s-1")

    def test_closed_before_hello(self) -> None:
        self.make(hello=False)
        self.machine.closed(1006, "gone")
        self.assertEqual(self.failureResultOf(self.greeted, DeviceError).value.code, "closed")
        self.device.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_enveloped(self) -> None:
        self.make(dialect=JsonDialect.ENVELOPED)
        self.assertEqual(self.wire.texts[0]["data"]["version"], 1)
        self.send(type="stt", data={"text": "hi"}, timestamp=1)
        self.assertIn(e.Heard("hi"), self.events)


class AutoTests(DeviceCase):
    def setUp(self) -> None:
        self.make()

    def answer_one(self) -> None:
        self.send(type="stt", text="the words")
        self.tts("start")
        self.wait(0.1)
        self.send(type="llm", emotion="happy", text="🙂")
        self.tts("sentence_start", text="An answer.")
        self.audio(3)

    def test_a_turn(self) -> None:
        answer = self.device.say(SPEECH)
        self.assertEqual(self.wire.order, ["listen start"])
        self.wait(0.5)
        self.assertGreaterEqual(len(self.wire.binaries), 8)
        self.answer_one()
        sent = len(self.wire.binaries)
        self.wait(0.1)
        # The microphone is off while the device speaks.
        self.assertEqual(len(self.wire.binaries), sent)
        self.tts("stop")
        self.assert_state(TalkState.LISTENING)
        # It plays its queue before it listens again.
        self.assertEqual(self.wire.order, ["listen start", "audio"])
        self.assertNoResult(answer)
        self.wait(0.15)
        self.assertEqual(self.wire.order[:3], ["listen start", "audio", "listen start"])
        got = self.successResultOf(answer)
        self.assertEqual(
            (got.heard, got.sentences, got.emotion, len(got.packets), got.audio_ms),
            ("the words", ("An answer.",), "happy", 3, 180),
        )
        self.assertEqual((got.tts_starts, got.tts_stops, got.gaps, got.dropped), (1, 1, (), 0))
        # Speech ended at 0.3, audio came at 0.6.
        self.assertApproximates(got.first_audio_latency, 0.3, 0.02)

    def test_next_utterance_waits_until_the_device_listens(self) -> None:
        self.device.say(SPEECH)
        self.wait(0.4)
        second = self.device.listen()
        self.successResultOf(second)
        self.tts("start")
        second = self.device.listen()
        self.assertNoResult(second)
        self.tts("stop")
        self.successResultOf(second)

    def test_gaps_are_heard(self) -> None:
        answer = self.device.text("hi")
        self.answer_one()
        self.wait(0.5)
        self.audio()
        self.tts("stop")
        self.wait(0.1)
        (gap,) = self.successResultOf(answer).gaps
        self.assertApproximates(gap, 320, 15)

    def test_the_pause_between_answers_is_no_gap(self) -> None:
        for _ in range(2):
            self.tts("start")
            self.wait(0.1)
            self.audio()
            self.tts("stop")
            self.wait(1)
        gaps = [event.gap_ms for event in self.events if isinstance(event, e.PacketPlayed)]
        self.assertEqual(gaps, [0, 0])

    def test_audio_outside_speaking_is_dropped(self) -> None:
        self.audio()
        self.device.say(SPEECH)
        self.audio()
        self.assertEqual(self.troubles(), ["audio_dropped"] * 2)

    def test_audio_in_the_burst_of_tts_start_is_lost(self) -> None:
        answer = self.device.text("hi")
        self.tts("start")
        self.audio(4)
        self.clock.advance(0.001)
        # One was playing already.
        self.assertEqual(self.troubles(), ["flushed"])
        self.assertIn(
            e.Trouble("flushed", "3 packets arrived too early after tts start"), self.events
        )
        self.device.close()
        self.successResultOf(answer)

    def test_full_queue(self) -> None:
        self.tts("start")
        self.wait(0.1)
        self.audio(45)
        self.assertEqual(self.troubles(), ["queue_full"] * 2)

    def test_packets_that_cannot_be_decoded(self) -> None:
        self.device.close()
        self.wire = FakeWire()
        greeted = self.device.attach(self.wire)
        self.hello(audio_params={"sample_rate": 24000, "frame_duration": 20})
        self.successResultOf(greeted)
        self.tts("start")
        self.wait(0.1)
        self.audio(1, SIXTY)
        self.audio(1, TWENTY)
        self.machine.binary_received(b"")
        self.assertEqual(self.troubles(), ["undecodable", "bad_frame"])

    def test_wrong_rate_is_silence(self) -> None:
        self.device.close()
        greeted = self.device.attach(FakeWire())
        self.hello(audio_params={"sample_rate": 22050})
        self.successResultOf(greeted)
        self.tts("start")
        self.audio()
        self.assertEqual(self.troubles(), ["undecodable"])

    def test_abort_waits_for_stop(self) -> None:
        answer = self.device.text("hi")
        self.answer_one()
        self.device.abort()
        self.assertEqual(self.wire.order[-1], "abort")
        self.assertNotIn("reason", self.wire.texts[-1])
        self.assert_state(TalkState.SPEAKING)
        self.tts("stop")
        self.assert_state(TalkState.LISTENING)
        self.wait(0.3)
        self.assertTrue(self.successResultOf(answer).interrupted)

    def test_wake_word_while_speaking(self) -> None:
        answer = self.device.text("hi")
        self.answer_one()
        self.device.abort("wake_word_detected")
        self.assertEqual(self.wire.texts[-1]["reason"], "wake_word_detected")
        self.assert_state(TalkState.LISTENING)
        self.tts("stop")  # too late for this device, so without effect
        self.assertIn(e.SpeechStopped(stray=True), self.events)
        self.assertEqual(self.device.answers.strays, 1)
        self.wait(0.3)
        self.assertIn("listen start", self.wire.order)
        self.assertEqual(self.successResultOf(answer).tts_stops, 0)

    def test_stray_stop_and_double_start(self) -> None:
        self.tts("stop")
        self.assert_state(TalkState.IDLE)
        self.tts("start")
        self.tts("start")
        self.assert_state(TalkState.SPEAKING)
        self.assertEqual(self.troubles(), ["ignored"])

    def test_server_speaks_first(self) -> None:
        self.tts("start")
        self.assert_state(TalkState.SPEAKING)
        self.tts("stop")
        self.assert_state(TalkState.LISTENING)
        self.assertEqual(self.wire.order, ["listen start"])

    def test_wake_word_upload(self) -> None:
        self.machine.wake("你好小智", (SIXTY, SIXTY))
        self.assertEqual(self.wire.order, ["audio", "listen detect", "listen start"])
        self.machine.wake("你好小智")
        self.assertEqual(self.troubles(), ["refused_state"])

    def test_other_messages(self) -> None:
        self.send(type="alert", status="S", message="M", emotion="sad")
        self.send(type="alert", status="S")
        self.send(type="error", code="bad_field", message="no")
        self.send(type="custom", payload={})
        self.send(type="goodbye", session_id="s-1")
        self.machine.text_received("no json")
        self.assertIn(e.Alerted("S", "M", "sad"), self.events)
        self.assertIn(e.ServerError("bad_field", "no"), self.events)
        self.assertEqual(self.troubles(), ["ignored", "ignored", "ignored", "bad_text"])
        self.assert_state(TalkState.IDLE)

    def test_reboot_drops_the_connection(self) -> None:
        self.send(type="system", command="reboot")
        self.assertTrue(self.wire.dropped)
        self.assertFalse(self.device.online)

    def test_connection_lost(self) -> None:
        heard, unheard = self.device.text("a"), self.device.text("b")
        gone = self.device.gone()
        self.answer_one()
        self.machine.closed(1001, "going away")
        self.assert_state(TalkState.IDLE)
        self.successResultOf(gone)
        self.assertEqual(len(self.successResultOf(heard).packets), 3)
        self.assertEqual(self.failureResultOf(unheard, DeviceError).value.code, "closed")
        self.assertEqual(self.events.count(e.Disconnected(1001, "going away")), 1)
        # The queue is still played.
        self.assertTrue(self.machine.speaker.playing)
        self.device.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.connect()
        self.assert_state(TalkState.IDLE)

    def test_timeout(self) -> None:
        answer = self.device.say(SPEECH, timeout=5)
        typed = self.device.text("hi", timeout=6)
        self.wait(5.1)
        self.assertEqual(self.failureResultOf(answer, DeviceError).value.code, "timeout")
        # Later sound belongs to the other answer.
        self.answer_one()
        self.tts("stop")
        self.wait(0.3)
        self.assertEqual(self.successResultOf(typed).heard, "the words")

    def test_refusals(self) -> None:
        self.device.abort()
        self.machine.release()
        self.tts("start")
        self.machine.listen()
        self.assertEqual(self.wire.order, [])
        self.assertEqual(self.troubles(), ["refused_state"] * 2)
        self.assert_state(TalkState.SPEAKING)

    def test_a_text_too_long_to_send(self) -> None:
        self.machine.listen()
        self.machine.type_text("x" * 65536)
        self.assertEqual(self.wire.order, ["listen start"])
        self.assert_state(TalkState.IDLE)

    def test_not_connected(self) -> None:
        self.device.close()
        for answer in (self.device.say(SPEECH), self.device.text("hi")):
            self.assertEqual(self.failureResultOf(answer, DeviceError).value.code, "bad_state")
        self.assert_state(TalkState.IDLE)

    def test_a_timeout_ends_the_speech(self) -> None:
        answer = self.device.say(SPEECH * 20, timeout=0.3)
        self.wait(0.4)
        self.failureResultOf(answer, DeviceError)
        self.assertFalse(self.device.microphone.speaking)

    def test_close_leaves_no_timer(self) -> None:
        answer = self.device.say(SPEECH)
        self.wait(0.4)
        self.answer_one()
        self.device.close()
        self.successResultOf(answer)
        self.assertTrue(self.wire.dropped)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ManualTests(DeviceCase):
    def test_a_turn(self) -> None:
        self.make("manual")
        answer = self.device.say(SPEECH)
        self.wait(0.4)
        self.assertEqual(self.wire.order, ["listen start", "audio", "listen stop"])
        self.assertEqual(len(self.wire.binaries), 5)
        self.assert_state(TalkState.IDLE)
        self.tts("start")
        self.wait(0.1)
        self.audio(2)
        self.tts("stop")
        self.assert_state(TalkState.IDLE)
        self.wait(0.2)
        self.assertEqual(len(self.successResultOf(answer).packets), 2)
        self.assertEqual(len(self.wire.binaries), 5)

    def test_press_while_speaking(self) -> None:
        self.make("manual")
        first = self.device.say(SPEECH)
        self.wait(0.4)
        self.tts("start")
        self.wait(0.1)
        self.audio(2)
        self.wire.order.clear()
        self.device.say(SPEECH)
        self.wait(0.4)
        self.assertEqual(self.wire.order, ["abort", "listen start", "audio", "listen stop"])
        self.assertTrue(self.successResultOf(first).interrupted)

    def test_release_after_the_server_began(self) -> None:
        self.make("manual")
        self.device.say(SPEECH)
        self.wait(0.1)
        self.tts("start")
        self.wait(0.4)
        self.assertNotIn("listen stop", self.wire.order)


class RealtimeTests(DeviceCase):
    def setUp(self) -> None:
        self.make("realtime", framing=3)

    def test_never_stops(self) -> None:
        answer = self.device.say(SPEECH)
        self.wait(0.5)
        self.tts("start")
        self.wait(0.1)
        self.machine.binary_received(codec(3)[0](Audio(SIXTY)))
        before = len(self.wire.binaries)
        self.wait(0.5)
        self.assertGreaterEqual(len(self.wire.binaries), before + 8)
        self.tts("stop")
        self.wait(0.5)
        self.successResultOf(answer)
        self.assertEqual(self.wire.order, ["listen start", "audio"])
        self.assertEqual(self.wire.binaries[0][:4], b"\0\0\0\5")

    def test_speaking_over_an_answer(self) -> None:
        first = self.device.say(SPEECH)
        self.wait(0.4)
        self.send(type="stt", text="one")
        self.tts("start")
        self.wait(0.1)
        second = self.device.say(SPEECH)
        self.wait(0.2)
        self.tts("stop")
        self.wait(0.2)
        self.send(type="stt", text="two")
        self.tts("start")
        self.wait(0.1)
        self.tts("stop")
        self.assertEqual(self.successResultOf(first).heard, "one")
        self.assertEqual(self.successResultOf(second).heard, "two")

    def test_words_heard_before_the_answer_they_interrupt_has_stopped(self) -> None:
        first, second = self.device.say(SPEECH), self.device.say(SPEECH)
        self.wait(0.4)
        self.send(type="stt", text="one")
        self.tts("start")
        self.wait(0.4)
        self.send(type="stt", text="two")
        self.tts("stop")
        self.tts("start")
        self.tts("stop")
        self.assertEqual(self.successResultOf(first).heard, "one")
        self.assertEqual(self.successResultOf(second).heard, "two")

    def test_wake_word_flushes_the_buffer(self) -> None:
        self.device.say(SPEECH)
        self.tts("start")
        self.wait(0.1)
        for _ in range(5):
            self.machine.binary_received(codec(3)[0](Audio(SIXTY)))
        self.wire.order.clear()
        self.device.abort("wake_word_detected")
        self.assertEqual(self.wire.order, ["abort", "listen start"])
        self.wait(0.08)
        self.assertFalse(self.machine.speaker.playing)

    def test_wrong_framing(self) -> None:
        self.tts("start")
        self.machine.binary_received(SIXTY)
        self.assertEqual(self.troubles(), ["bad_frame"])


class MainLoopTests(DeviceCase):
    """A tool blocks the main loop (§5.2)."""

    def setUp(self) -> None:
        self.make()
        self.answer = self.device.say(SPEECH * 20)
        self.wait(0.2)

    def test_a_slow_tool_blocks_everything_but_sound(self) -> None:
        self.tts("start")
        self.wait(0.1)
        self.call("self.slow", 5)
        self.call("self.get_device_status", 6)
        self.tts("stop")
        self.audio()
        self.assert_state(TalkState.SPEAKING)
        self.assertIsInstance(self.events[-1], e.PacketPlayed)
        self.slow.callback("done")
        self.assert_state(TalkState.LISTENING)
        replies = [t["payload"]["id"] for t in self.wire.texts if t["type"] == "mcp"]
        self.assertEqual(replies, [5, 6])

    def test_microphone_packets_wait(self) -> None:
        self.call("self.slow")
        sent = len(self.wire.binaries)
        self.wait(1)
        self.assertEqual(len(self.wire.binaries), sent)
        self.slow.callback("done")
        self.assertEqual(self.wire.order[-2:], ["mcp", "audio"])
        self.assertGreaterEqual(len(self.wire.binaries), sent + 16)

    def test_the_oldest_packets_go(self) -> None:
        self.call("self.slow")
        sent = len(self.wire.binaries)
        self.wait(0.06 * (MIC_QUEUE + 5))
        self.slow.callback("done")
        self.assertEqual(len(self.wire.binaries), sent + MIC_QUEUE)
        self.assertGreaterEqual(self.troubles().count("mic_dropped"), 4)

    def test_a_tool_that_raises(self) -> None:
        self.call("self.slow")
        self.slow.errback(RuntimeError("broken"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertIn(e.Trouble("tool_failed", "broken"), self.events)
        self.call("self.get_device_status", 2)
        self.assertEqual(self.wire.texts[-1]["payload"]["id"], 2)

    def test_the_queue_is_bounded(self) -> None:
        self.call("self.slow")
        for _ in range(MAX_WAITING + 3):
            self.send(type="stt", text="x")
        self.assertEqual(self.troubles().count("ignored"), 3)

    def test_connection_lost_while_a_tool_runs(self) -> None:
        self.call("self.slow")
        self.machine.closed()
        self.failureResultOf(self.answer, DeviceError)
        self.assertNotIn("tool_failed", self.troubles())
        self.connect()
        self.call("self.get_device_status")
        self.assertEqual(self.wire.order, ["mcp"])
