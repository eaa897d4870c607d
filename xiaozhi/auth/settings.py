"""Settings of authentication."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec


class AuthSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section ``auth``, the same for both services.

    :ivar required: False lets every device in that names itself; for a lab only.
    :ivar key: the HS256 secret itself, at least 32 bytes; wins over ``key_file``.
    :ivar key_file: where the secret is kept; made at first start; empty:
        ``jwt.key`` in the state directory.
    :ivar private_key_file: PEM for RS256/ES256; may be absent where tokens are
        only checked. With neither file given a pair is made beside ``key_file``.
    :ivar public_key_file: PEM; absent: derived from the private key.
    :ivar leeway: seconds by which clocks may differ.
    :ivar ttl: seconds a device token lives.
    :ivar admin_token: what those who manage devices must show, at least 16 characters;
        wins over ``admin_token_file``.
    :ivar admin_token_file: where it is kept; made at first start; empty:
        ``admin.token`` in the state directory.
    :ivar issuer: put into tokens and demanded of them, if not empty.
    """

    required: bool = True
    algorithm: Literal["HS256", "RS256", "ES256"] = "HS256"
    key: str = ""
    key_file: str = ""
    private_key_file: str = ""
    public_key_file: str = ""
    leeway: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 30.0
    ttl: Annotated[float, msgspec.Meta(ge=60, le=3_153_600_000)] = 2592000.0
    issuer: str = ""
    admin_token: str = ""
    admin_token_file: str = ""

    def kept_in(self, state: Path) -> AuthSettings:
        """These settings, with the places of the secrets decided.

        :param state: the state directory.
        """
        return msgspec.structs.replace(
            self,
            key_file=self.key_file or str(state / "jwt.key"),
            admin_token_file=self.admin_token_file or str(state / "admin.token"),
        )

    def __repr__(self) -> str:
        return f"AuthSettings(algorithm={self.algorithm!r}, required={self.required!r}, …)"


class DevicesSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The device registry: which client holds which device id. All processes share one.

    :ivar url: ``sqlite:///path``, which processes of one machine may share, or
        ``postgresql://user:password@host:port/database``; empty: ``devices.sqlite3`` in the
        state directory.
    :ivar pool_size: connections to PostgreSQL.
    :ivar poll_interval: seconds between two looks at what has changed: so soon a
        revocation is acted on.
    """

    url: str = ""
    pool_size: Annotated[int, msgspec.Meta(ge=1, le=100)] = 2
    poll_interval: Annotated[float, msgspec.Meta(ge=0.05, le=60)] = 2.0

    def address(self, state: Path) -> str:
        """The URL in use.

        :param state: the state directory.
        """
        return self.url or f"sqlite:///{state / 'devices.sqlite3'}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"  # the address may hold a password
