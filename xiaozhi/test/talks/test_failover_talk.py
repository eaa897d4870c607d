"""Conversations with hanging, failing and slow providers: an answer or an apology within the
limits, without delay for others.
"""

from __future__ import annotations

from typing import Any

from xiaozhi.agents.settings import SessionSettings, TurnSettings
from xiaozhi.device.events import Alerted, PacketPlayed, Sentence
from xiaozhi.languages.texts import text
from xiaozhi.providers.kit.failover.settings import FailoverSettings
from xiaozhi.testing.conversation import ConversationCase
from xiaozhi.testing.house import SPEECH, House, Visitor
from xiaozhi.wire.messages import ListenMode

LIMITS = FailoverSettings()
DEAD: tuple[dict[str, Any], ...] = ({"hang": True}, {"fail": "unreachable"})
HEALTHY: dict[str, dict[str, Any]] = {
    "asr": {"texts": ("hello",)},
    "llm": {"answers": ("From the second.",)},
    "tts": {},
}
# The time of a turn itself: pacing, and steps of the clock.
SLACK = 0.3


class FailoverTalks(ConversationCase):
    def house(self, **settings: Any) -> House:
        """Make a house without bridging of the measured wait."""
        settings.setdefault("session", SessionSettings(turn=TurnSettings(bridge=0)))
        return super().house(**settings)

    def first_sound(self, visitor: Visitor, since: float) -> float:
        """Return the seconds from a moment to the first played packet."""
        heard = (at for at, event in visitor.events if isinstance(event, PacketPlayed))
        return next(at for at in heard if at >= since) - since

    def ask(self, house: House, visitor: Visitor, words: str = "hello") -> tuple[str, float]:
        since = house.clock.seconds()
        answer = house.until(visitor.device.text(words))
        return answer.text, self.first_sound(visitor, since)

    def providers(self, kind: str, first: dict[str, Any]) -> dict[str, Any]:
        """Make one provider of each kind, and of one kind a broken and a working one."""
        providers: dict[str, Any] = {each: [own] for each, own in HEALTHY.items()}
        providers[kind] = [first, HEALTHY[kind]]
        return providers

    def test_the_second_one_answers_within_its_time(self) -> None:
        for kind in ("asr", "llm", "tts"):
            for first in DEAD:
                with self.subTest(kind=kind, first=first):
                    house = self.house(**self.providers(kind, first))
                    visitor = house.connect(mode=ListenMode.MANUAL)
                    begun = house.clock.seconds()
                    answer = house.until(visitor.device.say(SPEECH))
                    self.assertEqual(answer.text, "From the second.")
                    self.assertEqual(visitor.seen(Alerted), [])
                    house.run(0.2)
                    record = house.shared.counts.recent[-1]
                    self.assertEqual((record.result, record.providers[kind]), ("answered", "b"))
                    waited = getattr(LIMITS, kind) if "hang" in first else 0
                    # The person speaks for 0.9 s first.
                    self.assertLess(self.first_sound(visitor, begun), 0.9 + waited + SLACK)

    def test_a_slow_provider_is_skipped(self) -> None:
        slow = {"delay": 15.0, "answers": ("From the first.",)}
        house = self.house(llm=[slow, HEALTHY["llm"]])
        visitor = house.connect()
        said, waited = self.ask(house, visitor)
        self.assertEqual(said, "From the second.")
        self.assertLess(waited, LIMITS.llm + SLACK)

    def test_an_open_circuit_costs_no_time(self) -> None:
        house = self.house(llm=[{"hang": True}, HEALTHY["llm"]])
        visitor = house.connect()
        waits = [self.ask(house, visitor)[1] for _ in range(LIMITS.failures + 1)]
        for waited in waits[:-1]:
            self.assertGreater(waited, LIMITS.llm)
        self.assertLess(waits[-1], SLACK)
        # One session probes next, and the others do not wait for it.
        others = [house.connect(number) for number in (2, 3)]
        house.run(LIMITS.cooldown)
        probing = visitor.device.text("hello")
        house.run(0.1)
        for other in others:
            self.assertLess(self.ask(house, other)[1], SLACK)
        self.assertFalse(probing.called)
        self.assertEqual(house.until(probing).text, "From the second.")

    def test_a_hanging_session_does_not_delay_the_others(self) -> None:
        """The first provider hangs only for one person's words."""
        trouble = {"trouble": [{"when": "trouble", "hang": True}], "answers": ["From the first."]}
        house = self.house(llm=[trouble, HEALTHY["llm"]])
        unlucky, *others = (house.connect(number) for number in (1, 2, 3))
        since = house.clock.seconds()
        answer = unlucky.device.text("trouble")
        house.run(0.1)
        for other in others:
            said, waited = self.ask(house, other)
            self.assertEqual(said, "From the first.")
            self.assertLess(waited, SLACK)
        self.assertEqual(house.until(answer).text, "From the second.")
        self.assertLess(self.first_sound(unlucky, since), LIMITS.llm + SLACK)

    def test_all_fail(self) -> None:
        """An apology, and the session continues."""
        turn = TurnSettings(first_token=9, bridge=0)
        for second, longest in (({"fail": "unreachable"}, LIMITS.llm), ({"hang": True}, 9)):
            house = self.house(session=SessionSettings(turn=turn), llm=[{"hang": True}, {**second}])
            visitor = house.connect()
            bystander = house.connect(2)
            said, waited = self.ask(house, visitor)
            self.assertEqual(said, text("apology", "en"))
            self.assertLess(waited, longest + SLACK, "the stage's limit is that of all")
            self.assertEqual(visitor.seen(Alerted), [])
            for group in house.providers.groups:
                for each in group.candidates:
                    each.provider._settings = each.provider.Settings(answers=("Well again.",))
            self.assertEqual(self.ask(house, visitor)[0], "Well again.")
            self.assertEqual(self.ask(house, bystander)[0], "Well again.")

    def test_sentences_of_two_synthesisers(self) -> None:
        """The first one fails at the second sentence; the second one has another rate."""
        trouble = {"trouble": [{"when": "Two", "fail": "vendor_error"}], "sample_rate": 24000}
        house = self.house(
            llm={"answers": ("One is first. Two is second. Three is third.",)},
            tts=[trouble, {"sample_rate": 16000}],
        )
        visitor = house.connect()
        said, _ = self.ask(house, visitor)
        self.assertEqual(said, "One is first. Two is second. Three is third.")
        self.assertEqual(len(visitor.seen(Sentence)), 3)
        # 60 ms for a character at any rate, and a pause after each sentence.
        sound = len(visitor.seen(PacketPlayed)) * 60
        characters = len("One is first.") + len("Two is second.") + len("Three is third.")
        self.assertApproximates(sound, characters * 60 + 3 * 120, 3 * 60)

    def test_a_phrase_of_a_substitute_is_not_the_preferred_one_s(self) -> None:
        """When the preferred voice is back, it speaks phrases that it has not spoken yet; the
        substitute's are for when no synthesiser works.
        """
        house = self.house(llm={"fail": "down"}, tts=[{"fail": "unreachable"}, {}])
        visitor = house.connect()
        preferred, substitute = (each.provider for each in house.providers.groups[0].candidates)
        self.assertEqual(self.ask(house, visitor)[0], text("apology", "en"))
        house.run(0.2)
        (of_substitute,) = house.files.kept
        house.run(LIMITS.cooldown)
        preferred._settings, substitute._settings = substitute._settings, preferred._settings
        self.assertEqual(self.ask(house, visitor)[0], text("apology", "en"))
        house.run(0.2)
        self.assertEqual(len(house.files.kept), 2, "the preferred one has spoken it, too")
        self.assertEqual(house.shared.counts.recent[-1].providers["tts"], "a")
        self.assertIn(of_substitute, house.files.kept)
