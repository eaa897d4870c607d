"""Spoken confirmation: tool calls that run only after the person has said yes.

The model never decides whether the person agreed. :mod:`xiaozhi.languages.affirmation`
matches the person's words, and a yes runs exactly the call that the question was about.
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

#: Result code of a call that waits for a yes.
UNCONFIRMED: Final = "unconfirmed"

# They stay in the dialogue, so they must be true whatever the person answers.
_ASKED = (
    f"{UNCONFIRMED_CALL}, and the person has not confirmed it. They are being asked. It has run"
    " only if a further call with a result follows."
)
_ANOTHER = (
    f"{UNCONFIRMED_CALL}, and they are being asked about another call. Ask for it again after"
    " their answer."
)
_ONCE = "Not run again: the person's yes was for one run, and its result is above."


@dataclass(frozen=True, slots=True, repr=False)
class WaitingCall:
    """A call that waits for the person's yes.

    :ivar call: the call; never log its arguments.
    :ivar tool: identifies the tool that the question was about.
    """

    call: ToolCall
    tool: ToolIdentity


class Confirmation:
    """The call of a session that waits for a yes; at most one.

    It is held while the turn that asks the person runs. The wait begins when that turn has
    been played, and ends with the person's next words, another turn, an interruption or a
    timeout.
    """

    def __init__(self) -> None:
        self._waiting: WaitingCall | None = None
        self._turn = 0
        self._until: float | None = None

    def hold(self, waiting: WaitingCall, turn: int) -> None:
        """Hold a call that the running turn asks the person about."""
        self._waiting, self._turn, self._until = waiting, turn, None

    def turn_ended(self, turn: int, until: float, *, heard: bool) -> None:
        """Begin the wait if this turn asked the question; otherwise end it.

        :param until: time on the clock after which a yes is ignored.
        :param heard: whether the turn was played completely.
        """
        if heard and turn == self._turn and self._waiting is not None:
            self._until = until
        else:
            self.forget()

    def answered(self, words: str, at: float) -> WaitingCall | None:
        """End the wait with the person's next words.

        :param at: time of the words on the clock.
        :return: the call if the words are a yes in time, else None.
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

    :ivar code: result code for metrics and logs.
    """

    result: ToolResult
    code: str = UNCONFIRMED


class CallScreen:
    """Decides which calls of one turn may run.

    :param needs: returns whether the named tool needs a confirmation.
    :param turn: number of the turn.
    :ivar question: name, in plain words, of the tool to ask the person about; empty: none.
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
        """Permit one run of a call that the person has agreed to.

        :return: the call to run; None: the name now belongs to another tool.
        """
        if self._toolbox.identity(waiting.call.name) != waiting.tool:
            return None
        # Its first id already has a result: that it did not run.
        self._agreed = replace(waiting.call, call_id=f"call_{new_id().hex}")
        return self._agreed

    def withhold(self, call: ToolCall) -> Withheld | None:
        """Return the result of a call that must not run now; None: it may run.

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
    """Return a key that is equal for different spellings of one call."""
    try:
        arguments = json.dumps(json.loads(call.arguments or "{}"), sort_keys=True)
    except (ValueError, RecursionError):
        arguments = call.arguments
    return call.name, arguments
