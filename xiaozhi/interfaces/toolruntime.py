"""Seams of tool plugins: their maker, and the facilities they may use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import Attribute, Interface

from xiaozhi.interfaces.tools import IToolSource


class ToolHttp(Protocol):
    """HTTP for tools, bounded in time and size."""

    def request(
        self,
        method: str,
        url: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        timeout: float = 10.0,
        max_bytes: int = 1 << 20,
    ) -> Deferred[ToolHttpReply]:
        """Send a request and read the whole answer, of any status.

        Cancelling the Deferred aborts the request. Redirects are not followed.

        :param body: bytes as they are; anything else as JSON; None: no body.
        :param timeout: seconds for all of it.
        :param max_bytes: of the answer's body.
        :raises ToolError: ``bad_url``, ``http_unreachable``, ``http_timeout``,
            ``http_too_large``. The words name the host and never the path or query, which
            may hold keys.
        """


class ToolHttpReply(Protocol):
    """An answer to an HTTP request."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]:
        """By name in lower case."""
        ...

    @property
    def body(self) -> bytes: ...

    def checked(self) -> ToolHttpReply:
        """Return itself. :raises ToolError: ``http_status``: the status is not 2xx."""

    def json(self) -> Any:
        """:raises ToolError: ``bad_answer``: the body is not JSON."""


class ToolValues(Protocol):
    """Texts that one tool source keeps, by owner and key."""

    def get(self, owner: str, key: str) -> Deferred[str | None]:
        """Look a value up.

        :param owner: a device id; empty: the source itself.
        :raises StoreError:
        """

    def put(self, owner: str, key: str, value: str) -> Deferred[None]:
        """Keep a value in the place of an earlier one.

        :raises StoreError: ``too_many_values``, ``value_too_large`` or ``bad_key``: beyond
            the bounds of the store; or the store's own.
        """

    def remove(self, owner: str, key: str) -> Deferred[None]:
        """Remove a value if there is one. :raises StoreError:"""

    def of(self, owner: str) -> Deferred[dict[str, str]]:
        """Look up all values of an owner by key. :raises StoreError:"""


class ToolTimers(Protocol):
    """Work at a later time, in this process and as long as the source runs."""

    def after(self, seconds: float, work: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        """Do something once.

        An exception is logged.

        :return: takes it back, or cancels it while it runs. Idempotent.
        :raises ToolError: ``too_many_timers``.
        """


class ToolMailbox(Protocol):
    """Reaches devices outside a turn, wherever they are connected."""

    def announce(self, device_id: str, words: str, ttl: float = 3600.0) -> Deferred[bool]:
        """Have words spoken by a device, now or when it connects next.

        :param ttl: seconds that they are kept for a device that is not connected.
        :return: whether the device has got them already.
        :raises ToolError: ``no_mailbox``, or the inbox is full or away.
        """


class ToolRuntime(Protocol):
    """Facilities of the process for one tool source.

    :ivar clock: for time limits; monotonic.
    :ivar seconds: gives the wall clock: seconds since the epoch.
    """

    @property
    def clock(self) -> IReactorTime: ...
    @property
    def seconds(self) -> Callable[[], float]: ...
    @property
    def http(self) -> ToolHttp: ...
    @property
    def values(self) -> ToolValues: ...
    @property
    def timers(self) -> ToolTimers: ...
    @property
    def mailbox(self) -> ToolMailbox: ...


class IToolStore(Interface):
    """Texts that tool sources keep, by source, owner and key. Each call is a transaction."""

    def start() -> Deferred[None]:
        """Connect, create or upgrade the schema; may be tried again after a failure.

        :raises StoreError:
        """

    def stop() -> Deferred[None]:
        """Close every connection."""

    def get(source: str, owner: str, key: str) -> Deferred[str | None]:
        """Look a value up. :raises StoreError:"""

    def put(source: str, owner: str, key: str, value: str) -> Deferred[None]:
        """Keep a value in the place of an earlier one.

        :raises StoreError: ``too_many_values``: the owner has as many keys as may be.
        """

    def remove(source: str, owner: str, key: str) -> Deferred[None]:
        """Remove a value if there is one. :raises StoreError:"""

    def of(source: str, owner: str) -> Deferred[dict[str, str]]:
        """All values of an owner by key. :raises StoreError:"""

    def forget(owner: str) -> Deferred[None]:
        """Remove all values of an owner in every source. :raises StoreError:"""


class IToolSourceMaker(Interface):
    """A tool source that the configuration can name: a ``twisted.plugin``."""

    name = Attribute("Its name in the section ``tools`` and in tool policies.")
    description = Attribute("One line for people.")
    standard = Attribute("Whether it is made without being named in ``tools``.")

    def settings() -> type[Any]:
        """Return the ``msgspec.Struct`` that its section is read into."""

    def make(settings: Any, runtime: ToolRuntime) -> IToolSource:
        """Build the source; nothing starts.

        :raises ConfigError: the settings cannot be used.
        """
