"""Settings of every provider that speaks the OpenAI dialect."""

from __future__ import annotations

from xiaozhi.providers.kit.http.settings import VendorHttpSettings


class VendorSettings(VendorHttpSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Address and limits of a vendor that speaks the OpenAI dialect.

    :ivar base_url: up to and including the version, e.g. ``http://localhost:11434/v1``.
    """

    base_url: str = "https://api.openai.com/v1"
