"""Needs that settings imply."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.agents.needs import needs_of
from xiaozhi.agents.settings import Detector, ListenSettings, SessionSettings
from xiaozhi.base.capabilities import Needs


class NeedsTests(SynchronousTestCase):
    def test_the_defaults_need_nothing(self) -> None:
        self.assertEqual(needs_of(SessionSettings()), Needs())
        self.assertEqual([*Needs().wanted()], [])

    def test_endpointing_by_text_needs_interim_results(self) -> None:
        settings = SessionSettings(listen=ListenSettings(detector=Detector.TEXT))
        self.assertEqual(
            [*needs_of(settings, "agents.kitchen").wanted()],
            [("asr", "interim", "agents.kitchen.listen.detector: text")],
        )

    def test_tools_that_are_named_need_a_model_that_calls_them(self) -> None:
        needs = needs_of(SessionSettings(), tools="agents.kitchen.tools.confirm")
        self.assertEqual([*needs.wanted()], [("llm", "tools", "agents.kitchen.tools.confirm")])
