"""Settings of metrics."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class MetricsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section ``metrics``, of both services.

    :ivar enabled: whether the page ``/metrics`` exists.
    :ivar listen: ``host:port`` of a separate port for that page; empty: the service's HTTP
        port, beside ``/health``.
    """

    enabled: bool = True
    listen: Annotated[str, Meta(pattern=r"^(.+:\d{1,5})?$", description="host:port")] = ""

    def __post_init__(self) -> None:
        if self.separate is not None and self.separate[1] > 65535:
            raise ValueError("listen: the port must be at most 65535")

    @property
    def shared(self) -> bool:
        """Whether the page is on the service's HTTP port."""
        return self.enabled and not self.listen

    @property
    def separate(self) -> tuple[str, int] | None:
        """Host and port of the page's own port, if it has one."""
        if not (self.enabled and self.listen):
            return None
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)
