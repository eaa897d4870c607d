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
        """Send a request and read the whole response, whatever its status.

        Cancelling the Deferred aborts the request. Redirects are not followed.

        :param body: bytes unchanged; other values as JSON; None: no body.
        :param timeout: seconds for the whole request.
        :param max_bytes: maximum size of the response's body.
        :raises ToolError: ``bad_url``, ``http_unreachable``, ``http_timeout``,
            ``http_too_large``. The message names the host, but never the path or query, which
            may contain keys.
        """


class ToolHttpReply(Protocol):
    """The response to an HTTP request."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]:
        """Headers by lower-case name."""
        ...

    @property
    def body(self) -> bytes: ...

    def checked(self) -> ToolHttpReply:
        """Return itself if the status is 2xx.

        :raises ToolError: ``http_status``: the status is not 2xx.
        """

    def json(self) -> Any:
        """Parse the body.

        :raises ToolError: ``bad_answer``: the body is not JSON.
        """


class ToolValues(Protocol):
    """Texts that one tool source stores, by owner and key. All methods raise StoreError."""

    def get(self, owner: str, key: str) -> Deferred[str | None]:
        """Return a value; None: there is none.

        :param owner: a device id; empty: the source itself.
        """

    def put(self, owner: str, key: str, value: str) -> Deferred[None]:
        """Store a value, and replace an earlier one.

        :raises StoreError: ``too_many_values``, ``value_too_large`` or ``bad_key``: beyond
            the bounds of the store; or the store's own.
        """

    def remove(self, owner: str, key: str) -> Deferred[None]:
        """Remove a value, if any."""

    def of(self, owner: str) -> Deferred[dict[str, str]]:
        """Return all values of an owner by key."""


class ToolTimers(Protocol):
    """Delayed work in this process, while the source runs."""

    def after(self, seconds: float, work: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        """Run some work once, after a delay. An exception is logged.

        :return: a function that cancels the work, also while it runs. Idempotent.
        :raises ToolError: ``too_many_timers``.
        """


class ToolMailbox(Protocol):
    """Reaches devices outside a turn, wherever they are connected."""

    def announce(self, device_id: str, words: str, ttl: float = 3600.0) -> Deferred[bool]:
        """Speak words on a device, now or when it connects next.

        :param ttl: seconds to keep them for a device that is not connected.
        :return: whether they were delivered at once.
        :raises ToolError: ``no_mailbox``, or the inbox is full or unavailable.
        """


class ToolRuntime(Protocol):
    """Facilities of the process for one tool source.

    :ivar clock: monotonic clock for timeouts.
    :ivar seconds: wall clock: returns seconds since the epoch.
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
    """Texts that tool sources store, by source, owner and key.

    Each call is one transaction; all raise StoreError.
    """

    def start() -> Deferred[None]:
        """Connect, create or upgrade the schema; may be retried after a failure."""

    def stop() -> Deferred[None]:
        """Close every connection."""

    def get(source: str, owner: str, key: str) -> Deferred[str | None]:
        """Return a value; None: there is none."""

    def put(source: str, owner: str, key: str, value: str) -> Deferred[None]:
        """Store a value, and replace an earlier one.

        :raises StoreError: ``too_many_values``: the owner has reached the limit of keys.
        """

    def remove(source: str, owner: str, key: str) -> Deferred[None]:
        """Remove a value, if any."""

    def of(source: str, owner: str) -> Deferred[dict[str, str]]:
        """Return all values of an owner by key."""

    def forget(owner: str) -> Deferred[None]:
        """Remove all values of an owner in every source."""


class IToolSourceMaker(Interface):
    """A tool source that the configuration can name: a ``twisted.plugin``."""

    name = Attribute("Its name in the section ``tools`` and in tool policies.")
    description = Attribute("One line for people.")
    standard = Attribute("Whether it is made even if ``tools`` does not name it.")

    def settings() -> type[Any]:
        """Return the ``msgspec.Struct`` that its section is read into."""

    def make(settings: Any, runtime: ToolRuntime) -> IToolSource:
        """Build the source without starting it.

        :raises ConfigError: the settings are invalid.
        """
