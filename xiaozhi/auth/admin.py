"""The management token: configured, or generated and kept in a file."""

from __future__ import annotations

import hmac
from pathlib import Path

from xiaozhi.auth.keys import KeyFile
from xiaozhi.auth.settings import AuthSettings
from xiaozhi.auth.tokens import bare_token
from xiaozhi.base.errors import AuthError, ConfigError

_SHORTEST = 16


class AdminToken:
    """Checks requests to the management API."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def __repr__(self) -> str:
        return "<AdminToken>"

    def check(self, authorization: str | None) -> None:
        """:param authorization: the header of that name.
        :raises AuthError: 401.
        """
        given = bare_token(authorization)
        if not given:
            raise AuthError(
                "missing_token", "the management token is needed: Authorization: Bearer TOKEN"
            )
        # Constant time, wherever the difference is.
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self._token):
            raise AuthError("bad_token", "this is not the management token")


def admin_token(settings: AuthSettings) -> str:
    """Return the configured management token, or generate it.

    :raises ConfigError: too short, or the file cannot be read or made.
    """
    settings = settings.kept_in(Path("var"))
    if not settings.admin_token:
        return KeyFile(Path(settings.admin_token_file), "auth.admin_token_file").secret()
    if len(settings.admin_token) < _SHORTEST or not settings.admin_token.isprintable():
        raise ConfigError(f"auth.admin_token: needs at least {_SHORTEST} printable characters")
    return settings.admin_token.strip()
