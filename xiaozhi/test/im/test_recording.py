"""Recordings of sessions' traffic, and replay of the device's side."""

from __future__ import annotations

import io
import json
from base64 import b64decode, urlsafe_b64encode
from pathlib import Path
from typing import Any

import jwt
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.errors import StoreError
from xiaozhi.device import replay
from xiaozhi.device.errors import DeviceError
from xiaozhi.device.replay import Replay, answer_log_of, read_recording
from xiaozhi.device.report import HumanReport, JsonReport
from xiaozhi.im.websocket.recording import AREA, RecordedChannel, Recorder
from xiaozhi.interfaces import IFileWriter
from xiaozhi.runtime.clocks import wall_time
from xiaozhi.testing.edge import wire_of
from xiaozhi.testing.files import MemoryFiles, MemoryWriter
from xiaozhi.testing.house import SPEECH, Browser, House
from xiaozhi.wire.messages import ListenMode


class RecordedHouse(House):
    """A house whose edge records."""

    def record(self, limit: int = 1 << 20) -> MemoryFiles:
        files = MemoryFiles()
        self.recorder = Recorder(files, self.clock, limit, wall_time(self.clock))
        self.make_channel = lambda socket, announced: RecordedChannel(
            self.recorder.recording(), socket, announced
        )
        return files


def lines_of(files: MemoryFiles, number: int = 0) -> list[Any]:
    """Return a recording's lines; connections have ended."""
    (data, *_) = [data for (area, _), data in files.kept.items() if area == AREA][number:]
    return [json.loads(line) for line in data.decode().splitlines()]


class RecordingCase(SynchronousTestCase):
    def house(self, **settings: Any) -> RecordedHouse:
        house = RecordedHouse(**settings)

        def check() -> None:
            self.assertEqual(house.close(), [], "timers left behind")

        self.addCleanup(check)
        return house

    def talk(self, house: RecordedHouse, mode: ListenMode = ListenMode.AUTO) -> None:
        visitor = house.connect(mode=mode)
        house.run(1)
        house.until(visitor.device.say(SPEECH))
        house.until(visitor.device.text("not so loud"))
        visitor.device.close()
        house.run(1)

    def saved(self, files: MemoryFiles) -> str:
        path = Path(self.mktemp())
        path.write_text("\n".join(map(json.dumps, lines_of(files))), encoding="utf-8")
        return str(path)


class RecordingTests(RecordingCase):
    def test_everything_that_passes(self) -> None:
        house = self.house()
        files = house.record()
        self.talk(house)
        head, *lines = lines_of(files)
        self.assertEqual(head["version"], 1)
        self.assertEqual(head["device_id"], house.visitors[0].device.identity.device_id)
        times = [line[0] for line in lines]
        self.assertEqual(times, sorted(times))
        texts = [json.loads(line[3]) for line in lines if line[2] == "text"]
        self.assertEqual(texts[0]["type"], "hello")
        said = [text["text"] for text in texts if text["type"] == "stt"]
        self.assertEqual(said, ["hello", "not so loud"])
        self.assertIn("sound", {line[2] for line in lines if line[1] == "up"})
        self.assertIn("sound", {line[2] for line in lines if line[1] == "down"})
        self.assertEqual(lines[-1][1:3], ["up", "close"])
        self.assertEqual(house.recorder.dropped, 0)

    def test_no_token(self) -> None:
        """Neither of headers sent as texts nor of our own answers."""
        house = self.house()
        files = house.record()
        browser = house.browse()
        browser.link.text_received("Authorization: Bearer abc.def")
        browser.say(type="hello", features={"mcp": True})
        house.run(1)
        asked = [text["payload"] for text in browser.of("mcp")]
        self.assertEqual(asked[0]["params"]["capabilities"]["vision"]["token"], "token")
        wire_of(browser.link).connection_lost("gone")
        house.run(1)
        told = json.dumps(lines_of(files))
        self.assertNotIn("abc.def", told)
        self.assertIn("vision", told)
        self.assertNotIn('\\"token\\\\\\": \\\\\\"token', told)
        self.assertRegex(told, r'token\\+": ?\\+"(…|\\+u2026)')

    def test_no_token_in_any_quoting(self) -> None:
        """With a quote in it, or in JSON within a text."""
        house = self.house()
        files = house.record()
        browser = house.browse()
        browser.say(type="hello")
        browser.say(type="chat", password='ab"hidden', text="seen")
        result = {"text": json.dumps({"token": 'cd"hidden', "volume": 3})}
        browser.say(type="mcp", payload={"jsonrpc": "2.0", "id": 7, "result": result})
        wire_of(browser.link).connection_lost("gone")
        house.run(1)
        _, *lines = lines_of(files)
        texts = [json.loads(line[3]) for line in lines if line[1:3] == ["up", "text"]]
        self.assertEqual(texts[1], {"type": "chat", "password": "…", "text": "seen"})
        self.assertEqual(
            json.loads(texts[2]["payload"]["result"]["text"]), {"token": "…", "volume": 3}
        )

    def test_no_jwt_at_any_position(self) -> None:
        made = [
            jwt.encode({"sub": "d"}, "k" * 40, headers={"kid": "x"}),
            jwt.encode({"sub": "d"}, "", algorithm="none"),
        ]
        for head in ('{ "alg":"HS256"}', '{\n"alg":"HS256"}', '{\t"alg":"HS256"}', '{\r"alg":""}'):
            made.append(f"{urlsafe_b64encode(head.encode()).decode()}.eyJzdWIiOiJkIn0.c2ln")
        made.append(f"{made[0]}.tag.more")  # encrypted: five parts
        for token in made:
            house = self.house()
            files = house.record()
            browser = house.browse()
            browser.say(type="hello")
            browser.say(type="chat", text=f"my {token} is secret")
            browser.say(type="chat", text=f"glued{token}")
            browser.say(type="x", odd_name=f"wss://h:1/?a={token.replace('.', '%2E')}&b=1")
            browser.say(type="x", nested=json.dumps({"a": [token]}))
            browser.link.text_received('{"type":"x","a":"' + token.replace(".", "\\u002e") + '"}')
            wire_of(browser.link).binary_received(b"\0\0" + token.encode() + b"\0")
            wire_of(browser.link).connection_lost(f"bye {token}", 1000)
            house.run(1)
            lines = lines_of(files)
            sound = b"".join(b64decode(line[3]) for line in lines[1:] if line[2] == "sound")
            told = json.dumps(lines) + sound.decode("latin-1")
            for part in token.split("."):
                if len(part) > 4:
                    self.assertNotIn(part, told)
            self.assertIn("secret", told)
            self.assertIn("&b=1", told)

    def test_missing_lines_are_reported_at_the_end(self) -> None:
        files, clock = MemoryFiles(), Clock()
        recorder = Recorder(files, clock, 1 << 30, clock.seconds)
        recording = recorder.recording()
        recording.begin(session_id="s")
        for _ in range(20):
            recording.sound("up", bytes(60_000))
        self.assertGreater(recorder.dropped, 3)
        self.successResultOf(recorder.stop())
        self.assertEqual(lines_of(files)[-1], [0, "", "dropped", recorder.dropped])

    def test_bounds(self) -> None:
        house = self.house()
        files = house.record(limit=20_000)
        browser = house.browse()
        browser.say(type="hello")
        for _ in range(100):
            wire_of(browser.link).binary_received(b"\x18" + bytes(200))
            house.run(0.06)
        lines = lines_of(files)
        self.assertEqual(lines[-1], [0, "", "full", None])
        wire_of(browser.link).connection_lost("gone")
        house.run(1)
        self.assertEqual(lines_of(files), lines, "it was complete before the session was")
        self.assertLess(sum(len(json.dumps(line)) for line in lines), 21_000)

    def test_a_disk_that_is_slow(self) -> None:
        """The queue is bounded; missing lines are counted, and the conversation continues."""
        clock = Clock()
        written: list[bytes] = []
        answers: list[Deferred[None]] = []

        class Slow(MemoryWriter):
            def write(self, data: bytes) -> Deferred[None]:
                written.append(data)
                answers.append(Deferred())
                return answers[-1]

        class Files(MemoryFiles):
            def writer(self, area: str) -> IFileWriter:
                return Slow(self, area)

        recorder = Recorder(Files(), clock, 1 << 30, clock.seconds)
        recording = recorder.recording()
        recording.begin(session_id="s")
        clock.advance(0.5)
        for _ in range(30):
            recording.sound("up", bytes(60_000))
            clock.advance(0.5)
        self.assertEqual(len(written), 1)
        self.assertGreater(recorder.dropped, 10)
        answers[0].callback(None)
        clock.advance(0.5)
        recording.sound("up", b"x")
        clock.advance(0.5)
        answers[1].callback(None)
        clock.advance(0.5)
        self.assertIn(f'"dropped",{recorder.dropped}', b"".join(written).decode())
        recorder.stop()
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_a_disk_that_is_full(self) -> None:
        clock = Clock()

        class Full(MemoryWriter):
            def write(self, data: bytes) -> Deferred[None]:
                return fail(StoreError("files_unavailable", "no space left"))

        class Files(MemoryFiles):
            def writer(self, area: str) -> IFileWriter:
                return Full(self, area)

        recorder = Recorder(Files(), clock, 1 << 30, clock.seconds)
        recording = recorder.recording()
        recording.begin(session_id="s")
        clock.advance(0.5)
        recording.text("up", "{}")
        self.successResultOf(recorder.stop())
        self.assertEqual(clock.getDelayedCalls(), [])


class ReplayTests(RecordingCase):
    def replayed(self, house: RecordedHouse, path: str, speed: float = 1.0) -> Replay:
        """Replay a recording against a house."""
        recorded = read_recording(path)
        again = Replay(recorded, house.clock, speed)

        class Socket(Browser):
            def send_text(self, text: str) -> None:
                house.clock.callLater(0, again.text_received, text)

            def send_binary(self, data: bytes) -> None:
                house.clock.callLater(0, again.binary_received, data)

            def close(self, code: int, reason: str) -> None:
                house.clock.callLater(0, again.closed, code, reason)

        browser = Socket()
        house.join(browser, 7)

        class Wire:
            def send_text(self, text: str) -> None:
                browser.link.text_received(text)

            def send_binary(self, data: bytes) -> None:
                wire_of(browser.link).binary_received(data)

        house.until(again.run(Wire()), 120)
        again.stop()
        return again

    def recorded(self, mode: ListenMode = ListenMode.AUTO, **settings: Any) -> str:
        house = self.house(**settings)
        files = house.record()
        self.talk(house, mode)
        return self.saved(files)

    def test_the_same_answers(self) -> None:
        calls = (
            {"name": "self_audio_speaker_set_volume", "when": "loud", "arguments": {"volume": 3}},
        )
        for mode in ListenMode:
            path = self.recorded(mode, llm={"calls": calls})
            then = answer_log_of(read_recording(path))
            now = self.replayed(self.house(llm={"calls": calls}), path).answer_log
            self.assertEqual(
                [(turn.heard, turn.sentences, turn.packets) for turn in now.turns],
                [(turn.heard, turn.sentences, turn.packets) for turn in then.turns],
                mode,
            )
            self.assertEqual([turn.heard for turn in then.turns], ["hello", "not so loud"])

    def test_another_server(self) -> None:
        """The new answers are printed beside the old ones."""
        path = self.recorded()
        now = self.replayed(self.house(llm={"answers": ["Something else."]}), path).answer_log
        then = answer_log_of(read_recording(path))
        self.assertEqual(now.turns[0].sentences, ["Something else."])
        self.assertEqual(then.turns[0].sentences, ["All right."])
        out = io.StringIO()
        HumanReport(out).compared(path, 0, then, now)
        self.assertIn("said 'All right.'", out.getvalue())
        self.assertIn("said 'Something else.'", out.getvalue())
        out = io.StringIO()
        JsonReport(out, lambda: 0.0).compared(path, 0, then, now)
        turn, _, whole = map(json.loads, out.getvalue().splitlines())
        self.assertEqual(turn["then"]["heard"], "hello")
        self.assertEqual((whole["event"], whole["then"], whole["now"]), ("replayed", 2, 2))

    def test_a_slow_server(self) -> None:
        """The replay waits while there are fewer answers than recorded."""
        house = self.house()
        files = house.record()
        visitor = house.connect()
        house.until(visitor.device.say(SPEECH))
        visitor.device.close()
        house.run(1)
        path = self.saved(files)
        now = self.replayed(self.house(asr={"delay": 2 * replay.QUIET}), path).answer_log
        said = ["One moment, please.", "All right."]
        self.assertEqual([turn.sentences for turn in now.turns], [said])

    def test_faster(self) -> None:
        path = self.recorded()
        house = self.house()
        began = house.clock.seconds()
        self.replayed(house, path, speed=3.0)
        whole = read_recording(path).lines[-1].at
        self.assertLess(house.clock.seconds() - began, whole / 3 + replay.QUIET + 3)

    def test_a_server_that_hangs_up(self) -> None:
        path = self.recorded()
        house = self.house()
        again = Replay(read_recording(path), house.clock, 1.0)

        class Nowhere:
            def send_text(self, text: str) -> None: ...
            def send_binary(self, data: bytes) -> None: ...

        done = again.run(Nowhere())
        again.closed(1008, "rate_limit")
        again.closed(1006, "")
        self.successResultOf(done)
        self.assertEqual(again.closed_with, (1008, "rate_limit"))

    def test_bad_recordings(self) -> None:
        head = '{"version": 1, "session_id": "s", "device_id": "d", "framing": 1}'
        for text, told in (
            ("", "is empty"),
            ("[]", ":1: not the first line"),
            ('{"version": 2}', ":1: not the first line"),
            (f"{head}\n{{", ":2: "),
            (f'{head}\n[1, "up", "sound", "*"]', ":2: "),
            (f'{head}\n["x", "up", "text", "{{}}"]', ":2: could not convert"),
        ):
            path = Path(self.mktemp())
            path.write_text(text)
            with self.assertRaisesRegex(DeviceError, told):
                read_recording(str(path))

    def test_missing_lines_are_detected(self) -> None:
        path = Path(self.mktemp())
        path.write_text('{"version": 1}\n[0, "", "dropped", 3]\n[0, "", "full", null]')
        self.assertEqual(read_recording(str(path)).missing, 2)
