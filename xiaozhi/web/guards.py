"""Guards: decide by a request's head whether it may use a route.

A guard raises to refuse the request, so the body of a refused request is never kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from xiaozhi.base.errors import AuthError
from xiaozhi.interfaces import IDeviceTokens
from xiaozhi.web.limits.peers import Networks, parsed
from xiaozhi.web.request import WebRequest
from xiaozhi.web.routes import Guard
from xiaozhi.wire.messages import Device

#: Members of a health report for everybody.
FOR_ALL = ("status", "connections", "grpc_status")

# A request with one of these headers came through a proxy, whatever its address.
_PASSED_ON = (
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "cf-connecting-ip",
    "true-client-ip",
)

_LOOPBACK = Networks(("127.0.0.0/8", "::1"))


def management_guard(check: Callable[[str | None], None]) -> Guard:
    """Return a guard that admits the management token.

    :param check: checks the header ``Authorization``; raises AuthError.
    """
    return lambda request: check(request.authorization)


def device_guard(tokens: IDeviceTokens, *scopes: str) -> Guard:
    """Return a guard that admits a device by its token; see :func:`verified_device`."""

    def guard(request: WebRequest) -> None:
        verified_device(request, tokens, *scopes)

    return guard


def verified_device(request: WebRequest, tokens: IDeviceTokens, *scopes: str) -> Device:
    """Return the device of a request's token, in the headers or the query.

    :param scopes: accepted scopes of the token; the error is that of the last one.
    :raises AuthError: the token is missing or invalid.
    """
    token = request.header_or_query("Authorization")
    device_id = request.header_or_query("Device-Id")
    for scope in scopes[:-1]:
        try:
            return tokens.verify(token, device_id, scope)
        except AuthError as error:
            if error.code != "wrong_scope":
                raise
    return tokens.verify(token, device_id, scopes[-1])


class Insiders:
    """Holders of the management token, and users of this machine.

    A proxy on this machine makes strangers look like local users. A request with headers of a
    proxy, or from a trusted proxy's address, is therefore not local.
    """

    def __init__(
        self,
        check: Callable[[str | None], None],
        proxies: Iterable[str] = (),
        *,
        trust_loopback: bool = True,
    ) -> None:
        """
        :param check: raises AuthError unless the header has the management token.
        :param proxies: networks of trusted proxies.
        :param trust_loopback: False: admit by the token only.
        """
        self._check = check
        self._proxies = Networks(proxies)
        self._trust_loopback = trust_loopback

    def guard(self, request: WebRequest) -> None:
        """Admit only insiders. See :data:`~xiaozhi.web.routes.Guard`."""
        if not self.include(request):
            self._check(request.authorization)

    def include(self, request: WebRequest) -> bool:
        """Return whether a request comes from an insider."""
        if self._trust_loopback and self._is_local(request):
            return True
        if request.authorization is None:
            return False
        try:
            self._check(request.authorization)
        except AuthError:
            return False
        return True

    def visible(self, request: WebRequest, health: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the part of a health report that a request may read."""
        if self.include(request):
            return health
        return {name: health[name] for name in FOR_ALL if name in health}

    def _is_local(self, request: WebRequest) -> bool:
        address = parsed(request.client)
        if address not in _LOOPBACK or address in self._proxies:
            return False
        return not any(name in request.headers for name in _PASSED_ON)
