"""Bridging phrase for a slow answer."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from xiaozhi.ai.llm.context import TurnContext


class WaitBridge:
    """Speaks a bridging phrase, at most once per turn, if the answer has no sound in time.

    :param say: speaks the phrase unless sound has started. Returns its text and a Deferred
        that fires with whether it was spoken.
    :ivar said: whether the phrase was spoken.
    """

    _log = Logger()

    def __init__(self, context: TurnContext, say: Callable[[], tuple[str, Deferred[bool]]]) -> None:
        self._context = context
        self._say: Callable[[], tuple[str, Deferred[bool]]] | None = say
        self._due: IDelayedCall | None = None
        self.said = False

    def start(self) -> None:
        """Schedule the phrase ``turn.bridge`` seconds from now; 0 disables it."""
        if seconds := self._context.limits.bridge:
            self._due = self._context.clock.callLater(seconds, self._bridge)

    def stop(self) -> None:
        """Cancel the phrase. Idempotent."""
        # Breaks the reference cycle with the turn.
        self._say = None
        due, self._due = self._due, None
        if due is not None and due.active():
            due.cancel()

    def _bridge(self) -> None:
        if self._say is None:
            return
        words, saying = self._say()

        def said(spoken: bool) -> None:
            if spoken:
                self.said = True
                self._context.echo.said(words)

        def failed(failure: Failure) -> None:
            if not failure.check(CancelledError):
                self._log.warn(
                    "{session_id}: the bridging phrase failed: {error}",
                    session_id=self._context.session_id,
                    error=failure.getErrorMessage(),
                )

        saying.addCallbacks(said, failed)
