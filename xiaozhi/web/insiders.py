"""Who may read the details of ``/health``: names, addresses and figures that help an attacker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.web.iweb import IRequest

from xiaozhi.base.errors import AuthError
from xiaozhi.web.peers import Networks, parsed

#: What everybody is told.
FOR_ALL = ("status", "connections", "grpc_status")

# A request with one of these was passed on by a proxy, whatever address it comes from.
_PASSED_ON = (
    b"forwarded",
    b"via",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-real-ip",
    b"cf-connecting-ip",
    b"true-client-ip",
)

_LOOPBACK = Networks(("127.0.0.0/8", "::1"))


class Insiders:
    """Those with the management token, and this machine's own users.

    A proxy on this machine makes strangers look like its users: what shows signs of
    having been passed on, and what comes from a trusted proxy's address, is not from
    loopback.

    :param check: raises AuthError unless it is given the management token.
    :param proxies: networks of trusted proxies.
    :param trust_loopback: False: only the token counts.
    """

    def __init__(
        self,
        check: Callable[[str | None], None],
        proxies: Iterable[str] = (),
        *,
        trust_loopback: bool = True,
    ) -> None:
        self._check = check
        self._proxies = Networks(proxies)
        self._trust_loopback = trust_loopback

    def include(self, request: IRequest) -> bool:
        """Whether a request may read details."""
        if self._trust_loopback and self._is_local(request):
            return True
        shown = request.getHeader("authorization")
        if shown is None:
            return False
        try:
            self._check(shown)
        except AuthError:
            return False
        return True

    def visible(self, request: IRequest, health: Mapping[str, Any]) -> Mapping[str, Any]:
        """The part of a health report that a request may read."""
        if self.include(request):
            return health
        return {name: health[name] for name in FOR_ALL if name in health}

    def _is_local(self, request: IRequest) -> bool:
        address = parsed(str(getattr(request.getClientAddress(), "host", "")))
        if address not in _LOOPBACK or address in self._proxies:
            return False
        return not any(request.requestHeaders.hasHeader(name) for name in _PASSED_ON)
