"""Tool calls that run only after the person has said yes.

The model never decides whether the person agreed: the answer is matched by
:mod:`xiaozhi.languages.affirmation`, and it runs the call that the question was about.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from xiaozhi.base.errors import ToolError
from xiaozhi.base.ids import new_id
from xiaozhi.base.toolresult import UNCONFIRMED_CALL, ToolResult
from xiaozhi.base.values import ToolCall
from xiaozhi.languages.affirmation import is_yes
from xiaozhi.tools.names import spoken_name
from xiaozhi.tools.toolbox import Toolbox, ToolIdentity

#: The result code of a call that did not run for want of a yes.
UNCONFIRMED: Final = "unconfirmed"

# These stand in the dialogue for good, so they are true whatever the person answers.
_ASKED = (
    f"{UNCONFIRMED_CALL}, and the person has not confirmed it. They are being asked. It has run"
    " only if a further call with a result follows."
)
_ANOTHER = (
    f"{UNCONFIRMED_CALL}, and they are being asked about another call. Ask for it again after"
    " their answer."
)
_ONCE = "Not run again: the person's yes was for one run, whose result stands above."


@dataclass(frozen=True, slots=True, repr=False)
class WaitingCall:
    """A call that waits for the person's yes.

    :ivar call: the call; its arguments reach no log.
    :ivar tool: identifies the tool that the question was about.
    """

    call: ToolCall
    tool: ToolIdentity


class Confirmation:
    """The one call of a session that waits for a yes, if any.

    It is held while the turn that asks the person runs, and waits from the end of that
    turn's playback on. The next words of the person end the wait, whatever they are; so
    does any other turn, an interruption, and time.
    """

    def __init__(self) -> None:
        self._waiting: WaitingCall | None = None
        self._turn = 0
        self._until: float | None = None

    def hold(self, waiting: WaitingCall, turn: int) -> None:
        """Keep a call that the running turn asks the person about."""
        self._waiting, self._turn, self._until = waiting, turn, None

    def turn_ended(self, turn: int, until: float, *, heard: bool) -> None:
        """Let the wait begin, if this turn asked; otherwise end it.

        :param until: when a yes comes too late, on the clock.
        :param heard: the turn was played to its end.
        """
        if heard and turn == self._turn and self._waiting is not None:
            self._until = until
        else:
            self.forget()

    def answered(self, words: str, at: float) -> WaitingCall | None:
        """End the wait with the person's next words.

        :param at: when they were said, on the clock.
        :return: the call if they say yes in time.
        """
        waiting, until = self._waiting, self._until
        self.forget()
        return waiting if until is not None and at <= until and is_yes(words) else None

    def forget(self) -> None:
        """Drop the call. Idempotent."""
        self._waiting = self._until = None


@dataclass(frozen=True, slots=True)
class Withheld:
    """The result of a call that does not run.

    :ivar code: for metrics and the log.
    """

    result: ToolResult
    code: str = UNCONFIRMED


class CallScreen:
    """Decides which calls of one turn run.

    :param needs: whether a tool needs a confirmation, by its name.
    :param turn: its number.
    :ivar question: name of the tool that the person is to be asked about, in plain words;
        empty: none.
    """

    def __init__(
        self,
        confirmation: Confirmation,
        toolbox: Toolbox,
        needs: Callable[[str], bool],
        turn: int,
    ) -> None:
        self._confirmation = confirmation
        self._toolbox = toolbox
        self._needs = needs
        self._turn = turn
        self._agreed: ToolCall | None = None
        self._run = False
        self.question = ""

    def agreed(self, waiting: WaitingCall) -> ToolCall | None:
        """Permit a call that the person has agreed to, once.

        :return: the call to run; None: the tool is no longer the one in the question.
        """
        if self._toolbox.identity(waiting.call.name) != waiting.tool:
            return None
        # Its first id has the result that it did not run.
        self._agreed = replace(waiting.call, call_id=f"call_{new_id().hex}")
        return self._agreed

    def withhold(self, call: ToolCall) -> Withheld | None:
        """Return the result of a call that must not run now; None: it may.

        The first call of the turn that needs a yes is held for the question.
        """
        if not self._needs(call.name):
            return None
        if self._agreed is not None and essence(call) == essence(self._agreed):
            first, self._run = not self._run, True
            return None if first else Withheld(ToolResult(_ONCE))
        if self.question:
            return Withheld(ToolResult(_ANOTHER, silent=True))
        tool = self._toolbox.identity(call.name)
        if tool is None:
            return None
        try:
            self._toolbox.check(call.name, call.arguments)
        except ToolError as error:
            return Withheld(ToolResult(f"Error: {error.message}"), error.code)
        self.question = spoken_name(tool.spec.title) or spoken_name(call.name) or "tool"
        self._confirmation.hold(WaitingCall(call, tool), self._turn)
        return Withheld(ToolResult(_ASKED, silent=True))


def essence(call: ToolCall) -> tuple[str, str]:
    """Return a key by which two spellings of one call are equal."""
    try:
        arguments = json.dumps(json.loads(call.arguments or "{}"), sort_keys=True)
    except (ValueError, RecursionError):
        arguments = call.arguments
    return call.name, arguments
