"""A vendor's answer, read in pieces."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from math import inf

from twisted.web.iweb import IResponse

from xiaozhi.base.errors import ProviderError
from xiaozhi.providers.kit.http.bodies import IncomingBody
from xiaozhi.providers.kit.http.calls import VendorCalls
from xiaozhi.providers.kit.http.settings import VendorHttpSettings


class VendorAnswer:
    """A vendor's answer with status 200."""

    def __init__(
        self,
        calls: VendorCalls,
        settings: VendorHttpSettings,
        response: IResponse,
        sent: float,
        over: Callable[[VendorAnswer], None],
    ) -> None:
        """
        :param sent: when the request was sent, seconds on the clock.
        :param over: called once, when the answer is closed.
        """
        self._calls = calls
        self._settings = settings
        self._over = over
        self._body = IncomingBody()
        self._clock = calls.clock
        self._first_by = sent + settings.first_byte_timeout
        self._end_by = sent + settings.total_timeout
        self._over_by = inf
        self._begun = False
        # When the caller last received a piece; no limit runs until it asks for the next.
        self._given = self._clock.seconds()
        types = response.headers.getRawHeaders("content-type", [""])
        self.media_type, *parameters = (each.strip().lower() for each in types[0].split(";"))
        #: As in ``audio/pcm; rate=16000``.
        self.parameters = dict(each.partition("=")[::2] for each in parameters)
        response.deliverBody(self._body)

    async def chunk(self) -> bytes:
        """Return the next piece; empty at the end.

        :raises ProviderError: a timeout, or the connection was lost.
        """
        now = self._clock.seconds()
        self._end_by += now - self._given
        self._over_by += now - self._given
        due = now + self._settings.idle_timeout if self._begun else self._first_by
        due = min(due, self._end_by, self._over_by)
        data = await self._calls.within(self._body.chunk(), due - now)
        self._begun = True
        self._given = self._clock.seconds()
        return data

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield all pieces. Closing early drops the connection."""
        try:
            while data := await self.chunk():
                yield data
        finally:
            self.close()

    async def read(self, limit: int) -> bytes:
        """Return the whole body.

        :raises ProviderError: as :meth:`chunk`, or it is longer than ``limit``.
        """
        data = bytearray()
        try:
            while chunk := await self.chunk():
                data += chunk
                if len(data) > limit:
                    raise ProviderError(
                        "bad_answer", f"the answer is longer than {limit} bytes", retryable=False
                    )
        finally:
            self.close()
        return bytes(data)

    def hurry(self, seconds: float | None) -> None:
        """Limit the wait for each further piece; None: the limits of the settings."""
        self._over_by = inf if seconds is None else self._clock.seconds() + seconds

    def close(self) -> None:
        """Drop the connection unless the answer is complete. Idempotent."""
        self._body.abort()
        self._over(self)
