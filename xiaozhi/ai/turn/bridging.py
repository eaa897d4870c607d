"""A phrase that bridges the wait for a turn's first sound."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from xiaozhi.ai.llm.context import TurnContext


class WaitBridge:
    """Says, once per turn, that the answer takes a while.

    :param say: says the phrase if there is no sound yet; returns its words, and whether they
        are said.
    :ivar said: whether the phrase was said.
    """

    _log = Logger()

    def __init__(self, context: TurnContext, say: Callable[[], tuple[str, Deferred[bool]]]) -> None:
        self._context = context
        self._say: Callable[[], tuple[str, Deferred[bool]]] | None = say
        self._due: IDelayedCall | None = None
        self.said = False

    def start(self) -> None:
        """Say it after ``turn.bridge`` seconds."""
        if seconds := self._context.limits.bridge:
            self._due = self._context.clock.callLater(seconds, self._bridge)

    def stop(self) -> None:
        """Say it no more. Idempotent."""
        # The function refers to the turn, which refers to this.
        self._say = None
        due, self._due = self._due, None
        if due is not None and due.active():
            due.cancel()

    def _bridge(self) -> None:
        if self._say is None:
            return
        words, saying = self._say()

        def said(so: bool) -> None:
            if so:
                self.said = True
                self._context.echo.said(words)

        def failed(failure: Failure) -> None:
            if not failure.check(CancelledError):
                self._log.warn(
                    "{session_id}: no phrase could bridge the wait: {error}",
                    session_id=self._context.session_id,
                    error=failure.getErrorMessage(),
                )

        saying.addCallbacks(said, failed)
