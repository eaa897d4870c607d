"""Contents of the log, and data that must never be in it."""

from __future__ import annotations

import json
import os
import signal
from io import StringIO
from pathlib import Path
from typing import Any, cast

from twisted.application.service import Application
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogPublisher,
    formatEventAsClassicLogText,
    globalLogPublisher,
)
from twisted.python import log as legacy
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.agents.settings import DialogueSettings, SessionSettings
from xiaozhi.audio import OpusEncoder
from xiaozhi.base import trace
from xiaozhi.im.settings import EdgeSettings
from xiaozhi.runtime.logs import LogSettings, as_json, observer, observer_for
from xiaozhi.runtime.service import Program
from xiaozhi.testing.conversation import ConversationCase
from xiaozhi.testing.edge import wire_of
from xiaozhi.testing.house import SPEECH


class LineCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.out = StringIO()

    def logger(self, **settings: Any) -> Logger:
        writes = observer(LogSettings(**settings), self.out)
        return Logger("xiaozhi.test", observer=LogPublisher(writes))

    def line(self) -> dict[str, Any]:
        """Return the one written line."""
        (text,) = self.out.getvalue().splitlines()
        read = json.loads(text)
        assert isinstance(read, dict)
        return read


class JsonTests(LineCase):
    def test_fields(self) -> None:
        self.logger(format="json").warn(
            "{session_id}: gone after {seconds} s", session_id="s1", seconds=1.5, peer=object()
        )
        line = self.line()
        self.assertRegex(line.pop("time"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
        self.assertEqual(
            line,
            {
                "level": "warn",
                "logger": "xiaozhi.test",
                "message": "s1: gone after 1.5 s",
                "session_id": "s1",
                "seconds": 1.5,
            },
        )

    def test_the_time_is_the_events(self) -> None:
        line = json.loads(as_json({"log_time": 1_790_000_000.25, "log_format": "x"}))
        self.assertEqual(line["time"], "2026-09-21T14:13:20.250000Z")

    def test_fields_that_are_called_as_ours(self) -> None:
        self.logger(format="json").info("{message} [{logger}]", message="lost", logger=3)
        line = self.line()
        self.assertEqual((line["message"], line["logger"]), ("lost [3]", "xiaozhi.test"))
        self.assertEqual((line["message_"], line["logger_"]), ("lost", 3))

    def test_one_line_for_any_content(self) -> None:
        self.logger(format="json").info("{what}", what='two\nlines, "quoted", 你好 \x00')
        self.assertEqual(self.line()["what"], 'two\\nlines, "quoted", 你好 \\x00')

    def test_values_without_a_json_form(self) -> None:
        logger = self.logger(format="json")
        logger.info("{text} {number}", text="half \ud83d", number=10**30)
        self.assertEqual(self.line()["number"], 10**30)

    def test_a_format_that_is_wrong(self) -> None:
        self.logger(format="json").info("{missing}")
        self.assertIn("missing", self.line()["message"])

    def test_failure(self) -> None:
        logger = self.logger(format="json")
        try:
            raise ValueError("odd thing")
        except ValueError:
            logger.failure("it broke")
        line = self.line()
        self.assertEqual((line["level"], line["message"]), ("critical", "it broke"))
        self.assertIn("ValueError: odd thing", line["failure"])
        self.assertIn("test_logs.py", line["failure"])

    def test_from_the_older_log(self) -> None:
        """Twisted still uses it in some places."""
        seen: list[LogEvent] = []
        note = cast(ILogObserver, seen.append)
        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)
        legacy.msg("an old line", system="old")
        line = json.loads(as_json(seen[-1]))
        self.assertEqual((line["message"], line["level"]), ("an old line", "info"))
        self.assertEqual({"time", "level", "logger", "message"}, set(line))

    def test_the_request(self) -> None:
        logger = self.logger(format="json")
        with trace.working_for(trace.TracedMessage("s1", 7)):
            logger.info("in it")
        line = self.line()
        self.assertEqual((line["request_id"], line["session_id"]), ("s1-7", "s1"))
        self.out.truncate(0)
        self.out.seek(0)
        logger.info("outside")
        self.assertNotIn("request_id", self.line())


class LevelTests(LineCase):
    def test_text_is_as_ever(self) -> None:
        ours, theirs = StringIO(), StringIO()
        publisher = LogPublisher(
            observer(LogSettings(), ours), FileLogObserver(theirs, formatEventAsClassicLogText)
        )
        Logger("xiaozhi.test", observer=publisher).info("{what} happened", what="it")
        self.assertIn("[xiaozhi.test#info] it happened\n", ours.getvalue())
        self.assertEqual(ours.getvalue(), theirs.getvalue())

    def test_levels(self) -> None:
        levels = ("debug", "info", "warn", "error", "critical")
        for format_ in ("text", "json"):
            for number, level in enumerate(levels):
                self.out = StringIO()
                logger = self.logger(format=format_, level=level)
                for each in levels:
                    getattr(logger, each)("a line")
                written = len(self.out.getvalue().splitlines())
                self.assertEqual(written, len(levels) - number, level)


class HostileTests(LineCase):
    """A peer's text reaches the log, but never as a line of its own."""

    # A peer's text, and the part that must not be in the log.
    TABLE = (
        ("a\n2026-01-01T00:00:00+0000 [xiaozhi#error] forged", "\n2026"),
        ("a\r\nforged", "\r"),
        ("a\x1b[2Jb", "\x1b"),
        ("a\x9b2Jb", "\x9b"),
        ("a\x00b", "\x00"),
        ("a\x7fb", "\x7f"),
        ("a\u2028b\u2029c\x85d", "\u2028"),
        ("a\u202egpj.exe", "\u202e"),
        ("a\u2066b\u2069", "\u2066"),
        ("a\ud800b", "\ud800"),
        ("x" * 100_000, "x" * 4001),
        ("你" * 100_000, "你" * 4001),
        ("\n" * 100_000, "\n\n"),
    )

    def test_table(self) -> None:
        for form in ("text", "json"):
            for sent, forbidden in self.TABLE:
                octets = sent.encode("utf-8", "surrogatepass")
                for value in (sent, ValueError(sent), [sent], octets):
                    self.out = StringIO()
                    self.logger(format=form).warn("{peer} failed: {end}", peer=value, end="END")
                    text = self.out.getvalue()
                    self.assertEqual(text.count("\n"), 1, repr(sent[:30]))
                    self.assertLess(len(text.encode("utf-8", "surrogatepass")), 20_000)
                    self.assertNotIn(forbidden, text)
                    if form == "json":
                        read = json.loads(text)
                        self.assertNotIn(forbidden, read["message"])
                        self.assertNotIn(forbidden, str(read.get("peer", "")))
                    if isinstance(value, str):
                        self.assertIn("failed: END", text)

    def test_ordinary_text_stays(self) -> None:
        for text in ("你好，世界", "café", "tea 🍵 👨\u200d👩\u200d👧", "a b", "C:\\new"):
            self.out = StringIO()
            self.logger(format="text").info("{text}", text=text)
            self.assertIn(text, self.out.getvalue())

    def test_a_traceback(self) -> None:
        """Its own lines stay, indented; the text of the exception is a peer's."""
        for form in ("text", "json"):
            self.out = StringIO()
            error = Failure(ValueError("a\x1b[2J\r\nforged " + "x" * 100_000))
            self.logger(format=form).failure("it broke", error)
            text = self.out.getvalue()
            self.assertLess(len(text), 40_000)
            self.assertIn("ValueError", text)
            for line in text.splitlines()[1:]:
                self.assertTrue(line.startswith("\t"), line[:50])
            told = json.loads(text)["failure"] if form == "json" else text
            self.assertNotIn("\x1b", told)
            self.assertNotIn("\r", told)


class CommandTests(SynchronousTestCase):
    """The log destinations of ``twistd``."""

    def test_in_front(self) -> None:
        out = StringIO()
        self.patch(__import__("sys"), "stdout", out)
        for logfile in (None, "", "-"):
            found = observer_for(LogSettings(), {"nodaemon": True, "logfile": logfile})
            assert found is not None
            Logger("x", observer=found).info("a line")
        self.assertEqual(out.getvalue().count("a line"), 3)

    def test_a_file(self) -> None:
        before = signal.getsignal(signal.SIGUSR1)
        self.addCleanup(signal.signal, signal.SIGUSR1, before)
        path = self.mktemp()
        for front in (0, 1):
            found = observer_for(LogSettings(format="json"), {"nodaemon": front, "logfile": path})
            assert found is not None
            Logger("x", observer=found).info("你好")
        lines = Path(path).read_text("utf-8").splitlines()
        self.assertEqual([json.loads(line)["message"] for line in lines], ["你好", "你好"])

    def test_a_file_is_private(self) -> None:
        """Others can read neither a new log nor one of an earlier version."""
        before = signal.getsignal(signal.SIGUSR1)
        self.addCleanup(signal.signal, signal.SIGUSR1, before)
        self.addCleanup(os.umask, os.umask(0o022))
        for made, wanted in ((None, 0o600), (0o644, 0o600), (0o666, 0o600), (0o640, 0o640)):
            path = Path(self.mktemp())
            if made is not None:
                path.touch()
                path.chmod(made)
            observer_for(LogSettings(), {"nodaemon": False, "logfile": str(path)})
            self.assertEqual(path.stat().st_mode & 0o777, wanted)
            LogFile.fromFullPath(str(path)).rotate()
            self.assertEqual(path.stat().st_mode & 0o777, wanted)

    def test_a_daemon_has_no_standard_output(self) -> None:
        command = {"nodaemon": False, "logfile": "-"}
        self.assertRaises(SystemExit, observer_for, LogSettings(), command)

    def test_the_command_line_wins(self) -> None:
        for command in (None, {"logger": print}, {"syslog": True}):
            self.assertIsNone(observer_for(LogSettings(), command))

    def test_twistd_finds_it(self) -> None:
        """It looks for it in the service's application."""
        writes = observer(LogSettings(), StringIO())
        application = Application("test")
        Program(MemoryReactorClock(), log=writes).setServiceParent(application)
        self.assertIs(application.getComponent(ILogObserver), writes)


class TraceTests(SynchronousTestCase):
    def test_id(self) -> None:
        self.assertEqual(trace.TracedMessage("abc", 3).id, "abc-3")

    def test_coroutines_keep_it(self) -> None:
        gate: Deferred[None] = Deferred()
        seen: list[trace.TracedMessage | None] = []

        async def work() -> None:
            await gate
            seen.append(trace.current())

        request = trace.TracedMessage("s", 2)
        with trace.working_for(request):
            Deferred.fromCoroutine(work())
        self.assertIsNone(trace.current())
        with trace.working_for(trace.TracedMessage("other", 1)):
            gate.callback(None)
        self.assertEqual(seen, [request])


SECRET_WORDS = {
    "asr": "the heard pineapple",
    "llm": "Answer with an artichoke.",
    "prompt": "You keep the persimmon secret.",
    "typed": "a typed tangerine",
    "tool": "a grapefruit argument",
}


class ConversationLogTests(ConversationCase):
    """Everything that is logged during conversations, at every level."""

    def setUp(self) -> None:
        self.lines: list[str] = []
        note = cast(ILogObserver, self.note)
        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)

    def note(self, event: LogEvent) -> None:
        self.lines.append(as_json(event))
        self.lines.append(formatEventAsClassicLogText(event) or "")

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines[::2]]

    def talk(self, log_messages: bool = True, **llm: Any) -> None:
        house = self.house(
            session=SessionSettings(dialogue=DialogueSettings(prompt=SECRET_WORDS["prompt"])),
            edge=EdgeSettings(log_messages=log_messages),
            asr={"texts": (SECRET_WORDS["asr"],)},
            llm={"answers": (SECRET_WORDS["llm"],), **llm},
        )
        visitor = house.connect()
        house.until(visitor.device.say(SPEECH))
        answer = visitor.device.text(SECRET_WORDS["typed"])
        answer.addErrback(lambda _: None)
        house.run(8)
        visitor.device.close()
        house.run(1)

    def assert_silent(self) -> None:
        text = "\n".join(self.lines)
        for words in SECRET_WORDS.values():
            self.assertNotIn(words, text)
            self.assertNotIn(words.split()[-1].strip("."), text)

    def test_no_words(self) -> None:
        self.talk()
        self.assertGreater(len(self.lines), 10)
        self.assert_silent()

    def test_no_words_when_tools_fail(self) -> None:
        call = {
            "name": "self_audio_speaker_set_volume",
            "arguments": {"volume": SECRET_WORDS["tool"]},
        }
        self.talk(calls=(call,))
        self.assertTrue(any("tool" in line for line in self.lines))
        self.assert_silent()

    def test_no_words_when_the_model_fails(self) -> None:
        self.talk(fail="vendor_error")
        self.assertTrue(any("vendor_error" in line for line in self.lines))
        self.assert_silent()
        self.flushLoggedErrors()

    def test_each_message_has_its_line(self) -> None:
        self.talk()
        lines = [line for line in self.records() if "from the device" in line["message"]]
        kinds = [line["kind"] for line in lines]
        self.assertEqual(kinds[0], "hello")
        self.assertIn("audio", kinds)
        self.assertIn("listen", kinds)
        session_id = lines[0]["session_id"]
        self.assertEqual(lines[0]["request_id"], f"{session_id}-0")
        self.assertTrue(all(line["size"] > 0 for line in lines))
        numbers = [int(line["request_id"].rpartition("-")[2]) for line in lines]
        self.assertEqual(numbers, sorted(numbers))

    def test_unless_it_is_off(self) -> None:
        self.talk(log_messages=False)
        self.assertEqual([ln for ln in self.records() if "from the device" in ln["message"]], [])

    def test_the_ai_knows_a_message_by_the_same_id(self) -> None:
        """From the device's message at the edge to the line of the failure it caused."""
        self.talk(fail="vendor_error")
        self.flushLoggedErrors()
        records = self.records()
        failed = [line for line in records if line.get("result") == "failed"]
        self.assertEqual(len(failed), 2)
        told = {
            line["request_id"]: line for line in records if "from the device" in line["message"]
        }
        # The first turn began with a packet of sound, logged with its utterance.
        spoken, typed = (line["request_id"] for line in failed)
        self.assertEqual(told[typed]["kind"], "listen")
        audio = next(line for line in told.values() if line["kind"] == "audio")
        last = int(audio["request_id"].rpartition("-")[2])
        number = int(spoken.rpartition("-")[2])
        self.assertTrue(last - audio["frames"] <= number <= last, (number, audio))

    def test_a_turn_that_a_timer_began(self) -> None:
        """Sound stops in the middle of speech: the last packet's id counts."""
        house = self.house()
        browser = house.browse()
        browser.say(type="hello", version=1)
        browser.say(type="listen", state="start", mode="auto")
        for packet in OpusEncoder(16000, 60, 5, 24000).encode(SPEECH):
            wire_of(browser.link).binary_received(packet)
            house.run(0.06)
        sent = browser.link._record.frames
        house.run(8)
        (turn,) = [line for line in self.records() if "result" in line]
        # The hello has no number; listen is the first.
        self.assertEqual(turn["request_id"], f"{turn['session_id']}-{1 + sent}")


class ThreadTests(SynchronousTestCase):
    def test_clock_calls_have_no_request(self) -> None:
        """A timer has no request: code that needs it must keep it."""
        clock = Clock()
        seen: list[trace.TracedMessage | None] = []
        with trace.working_for(trace.TracedMessage("s", 1)):
            clock.callLater(1, lambda: seen.append(trace.current()))
        clock.advance(1)
        self.assertEqual(seen, [None])
