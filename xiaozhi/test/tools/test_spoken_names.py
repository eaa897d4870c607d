"""Names of tools in plain words, for questions that are spoken."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.tools.names import spoken_name


class SpokenNameTests(SynchronousTestCase):
    def test_plain_words(self) -> None:
        for title, spoken in (
            ("self.audio_speaker.set_volume", "audio speaker set volume"),
            ("Lamp.TurnOn", "lamp turn on"),
            ("setHTTPPort2", "set httpport2"),
            ("self", "self"),
            ("前灯.打开", "前灯 打开"),
            ("दरवाज़ा खोलो", "दरवाज़ा खोलो"),
            ("ｏｐｅｎ", "open"),
            ("open\u202e\n<b>{x}\x00?!", "open b x"),
            ("🚪!", ""),
            ("", ""),
        ):
            self.assertEqual(spoken_name(title), spoken)

    def test_no_more_than_a_few(self) -> None:
        self.assertEqual(spoken_name("ab " * 1000), " ".join(["ab"] * 20))
        self.assertEqual(spoken_name("x" * 100_000), "x" * 60)
        self.assertEqual(len(spoken_name("\ufdfa" * 1000)), 57)

    @given(st.text())
    def test_any_title(self, title: str) -> None:
        spoken = spoken_name(title)
        self.assertLessEqual(len(spoken), 60)
        kinds = {unicodedata.category(char)[0] for char in spoken.replace(" ", "")}
        self.assertLessEqual(kinds, {"L", "N", "M"})
        self.assertEqual(spoken, " ".join(spoken.split()))
