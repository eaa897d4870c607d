"""Settings of authentication."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec


class AuthSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section ``auth``, the same for both services.

    :ivar required: False admits every device that sends an id; for a lab only.
    :ivar key: the HS256 secret itself, at least 32 bytes; overrides ``key_file``.
    :ivar key_file: file of the secret, generated at first start; empty:
        ``jwt.key`` in the state directory.
    :ivar private_key_file: PEM for RS256/ES256; may be absent where tokens are only
        verified. Without both files a pair is generated beside ``key_file``.
    :ivar public_key_file: PEM; empty: derived from the private key.
    :ivar leeway: seconds by which clocks may differ.
    :ivar ttl: lifetime of a device token in seconds.
    :ivar admin_token: the management token, at least 16 characters; overrides
        ``admin_token_file``.
    :ivar admin_token_file: its file, generated at first start; empty:
        ``admin.token`` in the state directory.
    :ivar issuer: set in tokens and required of them, if not empty.
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
        """Return these settings with the paths of the secrets filled in.

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
    """The device registry, which maps device ids to clients. All processes share one.

    :ivar url: ``sqlite:///path``, which processes of one machine may share, or
        ``postgresql://user:password@host:port/database``; empty: ``devices.sqlite3`` in the
        state directory.
    :ivar pool_size: connections to PostgreSQL.
    :ivar poll_interval: seconds between two reads of changes; the delay of a revocation.
    """

    url: str = ""
    pool_size: Annotated[int, msgspec.Meta(ge=1, le=100)] = 2
    poll_interval: Annotated[float, msgspec.Meta(ge=0.05, le=60)] = 2.0

    def address(self, state: Path) -> str:
        """Return the URL in use.

        :param state: the state directory.
        """
        return self.url or f"sqlite:///{state / 'devices.sqlite3'}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"  # the address may contain a password
