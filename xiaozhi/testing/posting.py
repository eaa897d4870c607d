"""The surroundings of a :class:`~xiaozhi.web.posting.Posting` in tests."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from xiaozhi.base.errors import AuthError
from xiaozhi.base.values import Receipt
from xiaozhi.interfaces import IDeviceInbox
from xiaozhi.web.insiders import Insiders
from xiaozhi.web.posting import Posting
from xiaozhi.wire.mail import Mail


def admit(authorization: str | None) -> None:
    """Lets ``Bearer admin`` in."""
    if authorization != "Bearer admin":
        raise AuthError("bad_token", "this is not the management token")


def insiders() -> Insiders:
    """Those with ``Bearer admin``, and who asks from loopback."""
    return Insiders(admit)


@implementer(IDeviceInbox)
class AcceptingInbox:
    """:ivar posted: device, mail and ttl of everything posted.
    :ivar receipt: what is answered; None: nothing yet.
    :ivar broken: what is raised instead.
    """

    def __init__(self) -> None:
        self.posted: list[tuple[str, Mail, float]] = []
        self.receipt: Receipt | None = Receipt(True, "im-1")
        self.broken: Exception | None = None
        self.waiting: list[Deferred[Receipt]] = []

    def post(self, device_id: str, mail: Mail, ttl: float) -> Deferred[Receipt]:
        if self.broken is not None:
            return fail(self.broken)
        self.posted.append((device_id, mail, ttl))
        if self.receipt is None:
            self.waiting.append(Deferred())
            return self.waiting[-1]
        return succeed(self.receipt)


def posting(inbox: IDeviceInbox | None, max_bytes: int = 300) -> Posting:
    """Accepts ``Bearer admin``; ids are lower case."""
    return Posting(inbox, admit, str.lower, ttl=3600, max_ttl=7200, max_bytes=max_bytes)
