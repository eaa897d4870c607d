"""What has been said, in this session and before, as the model is told it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime

from xiaozhi.ai.history import History
from xiaozhi.ai.settings import DialogueSettings
from xiaozhi.ai.waiting import Gate
from xiaozhi.errors import ConfigError
from xiaozhi.values import DialogueEntry, Role, ToolCall, Utterance

_PLACEHOLDERS = ("date", "time", "weekday", "device")


def check_prompt(prompt: str) -> None:
    """:raises ConfigError: a placeholder nobody fills in, or one that cannot be filled in."""
    try:
        prompt.format(**dict.fromkeys(_PLACEHOLDERS, ""))
    except (LookupError, ValueError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"session.dialogue.prompt: cannot be filled in: {error}; its placeholders are: "
            + ", ".join(f"{{{name}}}" for name in _PLACEHOLDERS)
        ) from None


def whole(entries: Sequence[Utterance]) -> list[Utterance]:
    """A talk without halves of tool exchanges, which models refuse: a process was
    killed between a call and its result, or two wrote across each other.

    An exchange is an entry with calls and, right behind, one result for each.
    """
    found: list[Utterance] = []
    at = 0
    while at < len(entries):
        entry = entries[at]
        at += 1
        if entry.calls:
            results = entries[at : at + len(entry.calls)]
            if _answer(results, entry.calls):
                found += [entry, *results]
                at += len(results)
            elif entry.text:
                found.append(Utterance(entry.role, entry.text))
        elif entry.role is not Role.TOOL:
            found.append(entry)
    return found


def _answer(results: Sequence[Utterance], calls: Sequence[ToolCall]) -> bool:
    answered = sorted(result.call_id for result in results if result.role is Role.TOOL)
    return answered == sorted(call.call_id for call in calls)


class Dialogue:
    """The last entries of a talk, headed by the system prompt.

    Each is noted in the history as it comes, and the history is where a talk goes on
    that an earlier session of the device has begun.

    :param seconds: the clock: seconds since the epoch.
    :ivar recalled: open once the history has been asked, whatever it knew.
    """

    def __init__(
        self,
        settings: DialogueSettings,
        device_id: str,
        seconds: Callable[[], float],
        history: History,
    ) -> None:
        self.recalled = Gate(is_open=False)
        self._settings = settings
        self._device_id = device_id
        self._seconds = seconds
        self._history = history
        # Bound: the oldest entries are forgotten.
        self._entries: deque[DialogueEntry] = deque(maxlen=settings.entries)

    async def recall(self) -> None:
        """Put what was said before in front of what has been said meanwhile."""
        older = await self._history.recall(self._device_id, self._settings.entries)
        newer = {entry.id: entry for entry in self._entries}
        self._entries.clear()
        for entry in (*(each for each in older if each.id not in newer), *newer.values()):
            if not self._is_last(entry.said):
                self._entries.append(entry)
        self.recalled.open()

    def heard(self, text: str) -> None:
        """The person said something."""
        said = Utterance(Role.USER, text)
        if not self._is_last(said):
            self._note(said)

    def said(self, text: str, calls: tuple[ToolCall, ...] = ()) -> None:
        """The assistant did; nothing without text and calls."""
        if text or calls:
            self._note(Utterance(Role.ASSISTANT, text, calls))

    def tool_said(self, call: ToolCall, result: str) -> None:
        """A tool was run."""
        self._note(Utterance(Role.TOOL, result, call_id=call.call_id))

    def entries(self) -> list[Utterance]:
        """The prompt and what follows, beginning with the person's words."""
        entries = whole([entry.said for entry in self._entries])
        while entries and (entries[0].role is not Role.USER):
            entries.pop(0)
        return [Utterance(Role.SYSTEM, self._prompt()), *entries]

    def _note(self, said: Utterance) -> None:
        self._entries.append(self._history.note(self._device_id, said))

    def _is_last(self, said: Utterance) -> bool:
        """Whether the person said just that and has had no answer: a turn that was
        cut is asked again, and the model need not see the question twice."""
        return bool(self._entries) and said.role is Role.USER and self._entries[-1].said == said

    def _prompt(self) -> str:
        now = datetime.fromtimestamp(self._seconds()).astimezone()
        return self._settings.prompt.format(
            date=f"{now:%Y-%m-%d}",
            time=f"{now:%H:%M}",
            weekday=f"{now:%A}",
            device=self._device_id,
        )
