"""Settings that every vendor over HTTP has."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from xiaozhi.base.errors import ConfigError
from xiaozhi.providers.kit.url import VendorUrl

Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]


class VendorHttpSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Address and limits of a vendor; times in seconds.

    :ivar base_url: up to and including the version, e.g. ``http://localhost:11434/v1``; see
        :class:`~xiaozhi.providers.kit.url.VendorUrl`.
    :ivar extra: merged into each request last; a null removes a key.
    :ivar first_byte_timeout: from sending the request to the answer's first byte.
    :ivar idle_timeout: between two pieces of the answer.
    :ivar total_timeout: of the whole call, except the time in which the caller reads nothing
        because the device is still playing.
    """

    base_url: str
    api_key: str = ""
    extra: dict[str, Any] = {}
    connect_timeout: Seconds = 5.0
    first_byte_timeout: Seconds = 30.0
    idle_timeout: Seconds = 20.0
    total_timeout: Seconds = 120.0

    def __post_init__(self) -> None:
        """Refuse an unusable address, even if no agent uses the provider."""
        try:
            url = VendorUrl.parse(self.base_url)
        except ConfigError as error:
            raise ValueError(error.message) from None
        if (url.user or url.password) and self.api_key.strip():
            raise ValueError("base_url: has a user name although there is an api_key")

    def __repr__(self) -> str:
        """Show neither the key nor a password in the URL."""
        return f"<{type(self).__name__}>"

    def merged(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return a request with ``extra`` in it."""
        both = request | self.extra
        return {key: value for key, value in both.items() if value is not None}
