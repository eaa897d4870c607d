"""Programs whose locale or standard output is not UTF-8."""

from __future__ import annotations

import io
import json
import os

from twisted.logger import Logger, LogLevel
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.device import events as e
from xiaozhi.device.report import HumanReport, JsonReport
from xiaozhi.runtime.console import argument, is_unicode, tolerant
from xiaozhi.runtime.logs import LogSettings, observer_for
from xiaozhi.runtime.service import ServiceOptions

TEXTS = ("plain", "你好", "naïve → café", "😀 ok", "\udcff half")
# Whether every character can be written.
ENCODINGS = (
    ("ascii", False),
    ("latin-1", False),
    ("gbk", False),
    ("utf-8", True),
    ("UTF8", True),
    ("utf-16", True),
)


def stream(encoding: str) -> io.TextIOWrapper:
    """Make a program's standard output."""
    return io.TextIOWrapper(io.BytesIO(), encoding)


def written(out: io.TextIOWrapper) -> str:
    """Return the output."""
    out.flush()
    buffer = out.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode(out.encoding)


class ConsoleTests(SynchronousTestCase):
    """:mod:`xiaozhi.runtime.console` and its users."""

    def test_reports(self) -> None:
        """Nothing fails, and JSON stays JSON."""
        for encoding, unicode in ENCODINGS:
            for text in TEXTS:
                with self.subTest(encoding=encoding, text=text):
                    out = stream(encoding)
                    self.assertEqual(is_unicode(out), unicode)
                    tolerant(out)
                    HumanReport(out).event(e.Heard(text))
                    self.assertIn("heard", written(out))
                    out = stream(encoding)
                    tolerant(out)
                    JsonReport(out, lambda: 0.0).event(e.Heard(text))
                    if text.isprintable():
                        self.assertEqual(json.loads(written(out))["text"], text)

    def test_log(self) -> None:
        """On an ASCII standard output, a line is written with escapes, not lost."""
        out = stream("ascii")
        self.patch(__import__("sys"), "stdout", out)
        for form in ("text", "json"):
            settings = LogSettings(format=form)
            observer = observer_for(settings, {"nodaemon": True, "logfile": None})
            assert observer is not None
            Logger("x", observer=observer).emit(LogLevel.info, "said {what}", what="你好")
        self.assertEqual(written(out).count("said \\u4f60\\u597d"), 2)

    def test_arguments(self) -> None:
        """As Python reads them in an ASCII locale, and in a UTF-8 one."""
        for text in TEXTS:
            raw = text.encode("utf-8", "surrogateescape")
            for locale in ("ascii", "utf-8"):
                self.assertEqual(argument(raw.decode(locale, "surrogateescape")), text)

    def test_settings(self) -> None:
        options = ServiceOptions()
        options.opt_set(os.fsencode("greeting=你好").decode("ascii", "surrogateescape"))
        self.assertEqual(options.overrides, ["greeting=你好"])

    def test_other_streams(self) -> None:
        """Streams of unknown encoding are not changed."""
        tolerant(io.StringIO(), None)
        self.assertTrue(is_unicode(io.StringIO()))
