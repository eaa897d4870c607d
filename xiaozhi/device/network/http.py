"""HTTP client with the limits of the firmware's (§6, §7)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from twisted.internet import defer, protocol
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from xiaozhi.device.errors import DeviceError

# A response of about 8 KB hangs the firmware's reader forever; 6 KB is safe (§6).
MAX_BODY = 6 * 1024


@implementer(IBodyProducer)
class Pieces:
    """A small request body, written at once."""

    def __init__(self, pieces: Sequence[bytes], length: Any = None) -> None:
        """:param length: in bytes, or ``UNKNOWN_LENGTH``; default: the sum of the pieces."""
        self._pieces = pieces
        self.length = sum(map(len, pieces)) if length is None else length

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        for piece in self._pieces:
            consumer.write(piece)
        return succeed(None)

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def stopProducing(self) -> None: ...


async def post(
    agent: IAgent,
    clock: IReactorTime,
    url: str,
    headers: dict[str, str],
    body: IBodyProducer,
    *,
    code: str,
    timeout: float = 30.0,
) -> bytes:
    """Send a POST and read the response, with the firmware's limits.

    :param code: of the :class:`DeviceError` raised on failure.
    :param timeout: seconds for the status, and again for the body.
    :return: the body.
    :raises DeviceError: no connection, a status other than 200, no ``Content-Length``, or
        a body that is too long or incomplete.
    """
    response = await _send(agent, clock, url, headers, body, code, timeout)
    if response.code != 200:
        raise DeviceError(code, f"{url} answered {response.code}")
    if response.length is UNKNOWN_LENGTH:
        raise DeviceError(code, f"{url} answered without Content-Length, which devices misread")
    reader = _Body()
    response.deliverBody(reader)
    try:
        return await reader.done.addTimeout(timeout, clock)
    except defer.TimeoutError:
        raise DeviceError(code, f"{url}: incomplete response after {timeout:g} s") from None
    except ConnectionError as error:
        raise DeviceError(code, f"{url}: {error}") from None


async def post_for_status(
    agent: IAgent,
    clock: IReactorTime,
    url: str,
    headers: dict[str, str],
    body: IBodyProducer,
    *,
    code: str,
    timeout: float = 30.0,
) -> int:
    """Send a POST and return the status alone, as the firmware does for activation.

    :raises DeviceError: no connection, or no response.
    """
    response = await _send(agent, clock, url, headers, body, code, timeout)
    reader = _Body()
    response.deliverBody(reader)
    with suppress(defer.TimeoutError, ConnectionError):
        await reader.done.addTimeout(timeout, clock)
    return int(response.code)


async def _send(
    agent: IAgent,
    clock: IReactorTime,
    url: str,
    headers: dict[str, str],
    body: IBodyProducer,
    code: str,
    timeout: float,
) -> IResponse:
    if not url.startswith(("http://", "https://")):
        raise DeviceError(code, f"{url}: a URL must begin with http:// or https://")
    sent = Headers({name: [value] for name, value in headers.items()})
    try:
        request = agent.request(b"POST", url.encode("ascii"), sent, body)
        response: IResponse = await request.addTimeout(timeout, clock)
    except (defer.TimeoutError, UnicodeError) as error:
        raise DeviceError(code, f"{url}: no response: {error}") from None
    except Exception as error:
        raise DeviceError(code, f"{url}: {_reason(error)}") from error
    return response


def _reason(error: Exception) -> str:
    reasons = getattr(error, "reasons", None)
    if reasons and isinstance(reasons[0], Failure):
        return reasons[0].getErrorMessage()
    return str(error) or type(error).__name__


class _Body(protocol.Protocol):
    """Collects a bounded body."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.done: Deferred[bytes] = Deferred(lambda _: self._abort())

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > MAX_BODY and not self.done.called:
            self.done.errback(ConnectionError(f"the response is longer than {MAX_BODY} bytes"))
            self._abort()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(bytes(self._data))
        else:
            self.done.errback(ConnectionError(f"incomplete response: {reason.getErrorMessage()}"))

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]
