"""An outage of the AI service, as seen by one device."""

from __future__ import annotations

from xiaozhi.im.language.texts import TEXTS
from xiaozhi.im.settings import ByLanguage, LinkSettings
from xiaozhi.languages.catalogue import choose
from xiaozhi.wire.messages import Alert
from xiaozhi.wire.opus import has_voice, packet_ms

# Milliseconds: of voice that make an utterance, of silence that end one, and after which an
# utterance counts as a question without an end.
_VOICE = 240
_SILENCE = 700
_LONGEST = 10_000


class Outage:
    """One outage.

    :ivar since: clock time of its start.
    """

    __slots__ = ("_questions", "since")

    def __init__(self, now: float) -> None:
        self.since = now
        # None: another AI process listens.
        self._questions: Questions | None = Questions()

    def opened(self) -> None:
        """Start over: the device has started to listen."""
        if self._questions is not None:
            self._questions.opened()

    def heard(self, packet: bytes) -> bool:
        """See :meth:`Questions.heard`; False once another AI process listens."""
        return self._questions is not None and self._questions.heard(packet)

    def taken_over(self) -> None:
        """Leave the questions to another AI process, which listens now."""
        self._questions = None


class Questions:
    """Detects from undecoded packets that a person has said something.

    It reads the encoder's voice flags. Without them, each start of listening counts as one
    question.
    """

    __slots__ = ("_answered", "_silence", "_voice")

    def __init__(self) -> None:
        self.opened()

    def opened(self) -> None:
        """Start over: the device has started to listen."""
        self._voice = self._silence = 0.0
        self._answered = False

    def heard(self, packet: bytes) -> bool:
        """Process a packet from the microphone.

        :return: whether a question has just ended.
        """
        voiced = has_voice(packet)
        if voiced is None:
            first, self._answered = not self._answered, True
            return first
        length = packet_ms(packet)
        if voiced:
            self._voice += length
            self._silence = 0.0
            asked = self._voice >= _LONGEST and not self._answered
            self._answered |= asked
            return asked
        self._silence += length
        if self._silence < _SILENCE:
            return False
        asked = self._voice >= _VOICE and not self._answered
        self._voice = 0.0
        self._answered = False
        return asked


def outage_alert(settings: LinkSettings, language: str) -> Alert:
    """Make the alert about an outage.

    :param language: BCP 47, of the conversation.
    """
    status, message = (
        _configured(own, language) or TEXTS.text(key, language)
        for key, own in (
            ("outage_status", settings.outage_status),
            ("outage_message", settings.outage_message),
        )
    )
    return Alert(status, message, settings.outage_emotion)


def _configured(texts: ByLanguage, language: str) -> str:
    if isinstance(texts, str):
        return texts
    lower = {name.lower(): text for name, text in texts.items()}
    return lower.get(language.lower()) or lower.get(choose(language, lower)) or ""
