"""Collaborators of a :class:`~xiaozhi.web.posting.Posting` for tests."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from xiaozhi.base.errors import AuthError
from xiaozhi.base.values import Receipt
from xiaozhi.interfaces import IDeviceInbox
from xiaozhi.web.guards import Insiders
from xiaozhi.web.posting import Posting
from xiaozhi.wire.mail import Mail


def admit(authorization: str | None) -> None:
    """Accept ``Bearer admin``. :raises AuthError: any other credentials."""
    if authorization != "Bearer admin":
        raise AuthError("bad_token", "this is not the management token")


def insiders() -> Insiders:
    """Make a guard that admits ``Bearer admin`` and requests from loopback."""
    return Insiders(admit)


@implementer(IDeviceInbox)
class AcceptingInbox:
    """An inbox whose receipts the test sets.

    :ivar posted: device id, mail and ttl of each post.
    :ivar receipt: returned by each post; None: the Deferred stays in ``waiting``.
    :ivar broken: error of each post, unless None.
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
    """Make a posting that accepts ``Bearer admin`` and lower-cases device ids."""
    return Posting(inbox, admit, str.lower, ttl=3600, max_ttl=7200, max_bytes=max_bytes)
