"""The AI service, assembled but not started."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.ai.schema import AiSettings
from xiaozhi.ai.tap import ai_service
from xiaozhi.base.errors import ConfigError
from xiaozhi.testing.logs import LogLines

DOUBLES = {
    "asr": "scripted",
    "llm": "scripted",
    "tts": "tone",
    "vlllm": "scripted",
    "vad": "energy",
}


class AssemblyTests(SynchronousTestCase):
    def make(self, **settings: Any) -> LogLines:
        log = LogLines(self)
        told = {"state_dir": self.mktemp(), "selected": DOUBLES, **settings}
        ai_service(msgspec.convert(told, AiSettings), Clock())
        return log

    def test_an_unmet_need_is_logged(self) -> None:
        """Only a warning: such a configuration has always started."""
        by_text = {"listen": {"detector": "text"}}
        told = "session.listen.detector: text needs interim, which asr scripted does not offer"
        self.assertEqual(self.make(session=by_text).count(told), 1)
        self.assertEqual(self.make().count("needs interim"), 0)
        with_interim = {"asr": {"scripted": {"interim": 0.5}}}
        log = self.make(session=by_text, providers=with_interim)
        self.assertEqual(log.count("needs interim"), 0)

    def test_a_provider_that_cannot_be_made_ends_the_start(self) -> None:
        error = self.assertRaises(
            ConfigError,
            self.make,
            selected=DOUBLES | {"tts": "espeak"},
            providers={"tts": {"espeak": {"voice": "klingon"}}},
        )
        self.assertIn("providers.tts.espeak: espeak-ng has no voice klingon", error.message)
