"""What has been said in a session, as the model is told it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime

from xiaozhi.ai.settings import DialogueSettings
from xiaozhi.errors import ConfigError
from xiaozhi.values import Role, ToolCall, Utterance

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


class Dialogue:
    """The last entries of a talk, headed by the system prompt.

    :param seconds: the clock: seconds since the epoch.
    """

    def __init__(
        self, settings: DialogueSettings, device_id: str, seconds: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._device_id = device_id
        self._seconds = seconds
        # Bound: the oldest entries are forgotten.
        self._entries: deque[Utterance] = deque(maxlen=settings.entries)

    def heard(self, text: str) -> None:
        self._entries.append(Utterance(Role.USER, text))

    def said(self, text: str, calls: tuple[ToolCall, ...] = ()) -> None:
        if text or calls:
            self._entries.append(Utterance(Role.ASSISTANT, text, calls))

    def tool_said(self, call: ToolCall, result: str) -> None:
        self._entries.append(Utterance(Role.TOOL, result, call_id=call.call_id))

    def entries(self) -> list[Utterance]:
        """The prompt and what follows; never begins with half a tool exchange."""
        entries = list(self._entries)
        while entries and (entries[0].role is not Role.USER):
            entries.pop(0)
        return [Utterance(Role.SYSTEM, self._prompt()), *entries]

    def _prompt(self) -> str:
        now = datetime.fromtimestamp(self._seconds()).astimezone()
        return self._settings.prompt.format(
            date=f"{now:%Y-%m-%d}",
            time=f"{now:%H:%M}",
            weekday=f"{now:%A}",
            device=self._device_id,
        )
