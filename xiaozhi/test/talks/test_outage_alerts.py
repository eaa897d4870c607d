"""Alerts of an outage of the AI service: one for each question."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xiaozhi.device import events as e
from xiaozhi.im.settings import EdgeSettings, LinkSettings
from xiaozhi.testing.conversation import LONG, ConversationCase
from xiaozhi.testing.house import SPEECH, House, Visitor
from xiaozhi.wire.messages import Abort, ListenMode

MODES = (ListenMode.MANUAL, ListenMode.AUTO, ListenMode.REALTIME)
# Longer than `bridge.resume_timeout` and `link.outage_patience` together.
DECLARED = 6.0


def typed(visitor: Visitor) -> None:
    visitor.device.text("what time is it").addErrback(lambda _: None)


def spoken(visitor: Visitor) -> None:
    visitor.device.say(SPEECH).addErrback(lambda _: None)


def two_at_once(visitor: Visitor) -> None:
    typed(visitor)
    typed(visitor)


def aborted(visitor: Visitor) -> None:
    """Send an abort, as clients do before typed words in any state."""
    visitor.device.machine._send(Abort())
    typed(visitor)


# The kind of question, the device's mode, and the number of questions.
QUESTIONS: tuple[tuple[Callable[[Visitor], None], ListenMode, int], ...] = (
    *((typed, mode, 1) for mode in MODES),
    *((two_at_once, mode, 2) for mode in MODES),
    *((aborted, mode, 1) for mode in MODES),
    *((spoken, mode, 1) for mode in MODES),
)


def moments(visitor: Visitor, kind: type[Any]) -> list[float]:
    return [at for at, event in visitor.events if isinstance(event, kind)]


class OutageAlertTests(ConversationCase):
    def away(self, **settings: Any) -> tuple[House, Visitor]:
        """Return a device that has talked, and whose AI service was lost since."""
        mode = settings.pop("mode", ListenMode.AUTO)
        house = self.house(**settings)
        visitor = house.connect(mode=mode)
        house.until(visitor.device.text("hi"))
        house.run(1)
        house.kill_ai()
        house.run(DECLARED)
        self.assertEqual(visitor.seen(e.Alerted), [], "nobody has asked anything")
        return house, visitor

    def test_each_question_once(self) -> None:
        for ask, mode, alerts in QUESTIONS:
            with self.subTest(ask=ask.__name__, mode=mode):
                house, visitor = self.away(mode=mode)
                for count in (1, 2, 3):
                    ask(visitor)
                    house.run(DECLARED)
                    self.assertEqual(len(visitor.seen(e.Alerted)), alerts * count)
                heard = len(visitor.seen(e.Heard))
                sentences = len(visitor.seen(e.Sentence))
                house.start_ai()
                house.run(25)
                self.assertEqual(len(visitor.seen(e.Alerted)), 3 * alerts)
                # A question with an alert gets no answer later.
                self.assertEqual(len(visitor.seen(e.Heard)), heard)
                self.assertEqual(len(visitor.seen(e.Sentence)), sentences)
                self.assertEqual(house.until(visitor.device.text("again")).heard, "again")
                self.assert_paired(visitor)

    def test_noise_is_no_question(self) -> None:
        """An open microphone while nobody speaks."""
        for mode in (ListenMode.AUTO, ListenMode.REALTIME):
            house, visitor = self.away(mode=mode)
            visitor.device.listen()
            house.run(30)
            self.assertEqual(visitor.seen(e.Alerted), [])

    def test_not_before_the_buffer_has_been_played(self) -> None:
        for pace in (1.2, 2.0):
            house = self.house(llm={"replies": {"go": LONG * 2}}, tts={"pace": pace})
            visitor = house.connect()
            visitor.device.text("go").addErrback(lambda _: None)
            house.run(2.5)
            house.kill_ai()
            house.run(15)
            (alert,) = moments(visitor, e.Alerted)
            self.assertGreater(alert, max(moments(visitor, e.PacketPlayed)))
            self.assertGreaterEqual(alert, max(moments(visitor, e.SpeechStopped)))
            self.assert_paired(visitor)
            typed(visitor)
            house.run(1)
            self.assertEqual(len(visitor.seen(e.Alerted)), 2, "a new question")
            house.start_ai()
            house.run(15)

    def test_sentence_only_with_its_sound(self) -> None:
        house = self.house(
            llm={"replies": {"go": "One. Two is much longer than the first one. Three."}},
            tts={"trouble": ({"when": "Two", "hang": True},)},
        )
        visitor = house.connect()
        visitor.device.text("go").addErrback(lambda _: None)
        house.run(2)
        house.kill_ai()
        house.run(6)
        self.assertEqual([sentence.text for sentence in visitor.seen(e.Sentence)], ["One."])
        self.assert_paired(visitor)
        house.start_ai()
        house.run(5)

    def test_aborted_question_does_not_flash_by(self) -> None:
        """With any messages in flight when the AI service was lost."""
        for lost_first in (False, True):
            for pause in (0.05, 1.0, 2.5):
                house = self.house(llm={"delay": 1.0})
                visitor = house.connect()
                house.until(visitor.device.text("hi"))
                if lost_first:
                    house.kill_ai()
                visitor.device.text("old").addErrback(lambda _: None)
                house.run(pause)
                if not lost_first:
                    house.kill_ai()
                visitor.device.text("new").addErrback(lambda _: None)
                house.run(0.2)
                seen = len(visitor.seen(e.Heard))
                house.start_ai()
                house.run(20)
                later = [heard.text for heard in visitor.seen(e.Heard)][seen:]
                self.assertEqual(later, ["new"], (lost_first, pause))

    def test_shown_once(self) -> None:
        """``stt`` of a question that is asked again."""
        for after in (0.3, 1.0, 1.9):
            house = self.house(llm={"replies": {"hello": "Hi there."}, "delay": 2.0})
            visitor = house.connect()
            answer = visitor.device.text("hello")
            house.run(after)
            house.kill_ai()
            house.run(0.2)
            house.start_ai()
            house.until(answer)
            house.run(10)
            self.assertEqual([heard.text for heard in visitor.seen(e.Heard)], ["hello"])
            self.assertEqual([said.text for said in visitor.seen(e.Sentence)], ["Hi there."])
            self.assertEqual(visitor.seen(e.Alerted), [])

    def test_whole_answer_is_no_loss(self) -> None:
        """The AI service is lost when the edge has its whole answer."""
        house = self.house(llm={"answers": (LONG,)})
        visitor = house.connect()
        answer = visitor.device.text("go")
        house.run(1)
        house.kill_ai()
        self.assertEqual(" ".join(house.until(answer).sentences), LONG)
        house.run(10)
        self.assertEqual(visitor.seen(e.Alerted), [])

    def test_language(self) -> None:
        english, chinese = "The assistant cannot be reached", "暂时联系不上助手"
        both = {"zh": "不在", "en": "Gone"}
        for settings, says, shown in (
            ({}, "hi", english),
            ({}, "现在几点", chinese),
            ({}, "今何時ですか", "アシスタントに"),
            ({}, "지금 몇 시야", "어시스턴트에"),
            ({"language": "zh-CN"}, "", chinese),
            ({"language": "xx"}, "", english),
            ({"outage_message": "Nobody home"}, "现在几点", "Nobody home"),
            ({"outage_message": both}, "现在几点", "不在"),
            ({"outage_message": both}, "hi", "Gone"),
            ({"outage_message": {"ZH-cn": "没人"}, "language": "zh-CN"}, "", "没人"),
            ({"outage_message": {"de": "Weg"}}, "现在几点", chinese),
        ):
            with self.subTest(settings=settings, says=says):
                link = LinkSettings(**settings)
                house = self.house(edge=EdgeSettings(link=link), llm={"answers": ("1.",)})
                visitor = house.connect()
                if says:
                    house.until(visitor.device.text(says))
                house.kill_ai()
                house.run(DECLARED)
                # Kept beyond the connection in which it was reported.
                again = house.connect()
                house.run(DECLARED)
                typed(again)
                house.run(1)
                (alert,) = again.seen(e.Alerted)
                self.assertIn(shown, alert.message)
                house.start_ai()
                house.run(15)
