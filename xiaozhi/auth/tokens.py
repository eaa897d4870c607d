"""Device tokens: JWTs that name a device, its user and the token's scope."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import jwt
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from xiaozhi.auth.keys import Keys, load_keys
from xiaozhi.auth.roster import Roster
from xiaozhi.auth.settings import AuthSettings
from xiaozhi.base.errors import AuthError, ConfigError
from xiaozhi.base.ownership import DeviceState
from xiaozhi.interfaces import IAuthenticator, IDeviceTokens
from xiaozhi.runtime.clocks import wall_time
from xiaozhi.wire.messages import Device

DEVICE_SCOPE = "device"
VISION_SCOPE = "vision"

_LONGEST_TOKEN = 4096  # characters; ours have 300 to 1500
# The end of the year 9999, in seconds since the epoch. A later time is an error, such as
# milliseconds, or an attempt at a token that never expires.
_LATEST = 253_402_300_799
_IDENTIFIER = re.compile(r"[\x21-\x7e]{1,255}")
_MAC = re.compile(r"[0-9a-fA-F]{2}(?:[:-][0-9a-fA-F]{2}){5}")
_NO_TOKEN = frozenset({"", "none", "null", "undefined", "bearer"})


def device_identity(text: str) -> str:
    """Normalise a device id: a MAC address becomes lower case, so that tokens and
    connections agree; anything else is unchanged.

    :raises AuthError: 400; missing, longer than 255 or not printable ASCII.
    """
    text = text.strip()
    if not text:
        raise AuthError("missing_device_id", "the header Device-Id is missing", 400)
    if not _IDENTIFIER.fullmatch(text):
        raise AuthError("bad_device_id", "the device id is not 1-255 printable characters", 400)
    return text.lower() if _MAC.fullmatch(text) else text


def client_identity(text: str) -> str:
    """Check a client id, which may be empty.

    :raises AuthError: 400; longer than 255 or not printable ASCII.
    """
    text = text.strip()
    if text and not _IDENTIFIER.fullmatch(text):
        raise AuthError("bad_client_id", "the client id is not 1-255 printable characters", 400)
    return text


def open_user(device_id: str) -> str:
    """Return the user of an unclaimed device. Fits ``user_id VARCHAR(255)``."""
    return f"open:{device_id.lower()}"[:255]


def bare_token(token: str | None) -> str:
    """Return the token without ``Bearer``; empty if there is none, which some clients spell
    ``Bearer None`` (§10).
    """
    text = (token or "").strip()
    scheme, _, rest = text.partition(" ")
    if scheme.lower() == "bearer":
        text = rest.strip()
    return "" if text.lower() in _NO_TOKEN else text


@implementer(IDeviceTokens, IAuthenticator)
class JwtTokens:
    """Issues and verifies device tokens.

    :param clock: its wall clock gives the times in tokens.
    """

    def __init__(
        self,
        keys: Keys,
        settings: AuthSettings,
        clock: IReactorTime,
        roster: Roster | None = None,
    ) -> None:
        """:param roster: owners of devices; None: tokens alone decide, and those issued
        here count as issued by hand.
        """
        self._keys = keys
        self._settings = settings
        self._wall = wall_time(clock)
        self._roster = roster

    def issue(self, device: Device, scope: str, ttl: float) -> str:
        """See :class:`IDeviceTokens`.

        :raises AuthError: 400; an id that no token could carry.
        :raises ConfigError: only a public key is configured.
        """
        if self._keys.signing is None:
            raise ConfigError("auth.private_key_file: is needed to issue tokens")
        if not device.user_id or len(device.user_id) > 255:
            raise AuthError("bad_user_id", "the user id is not 1-255 characters", 400)
        now = int(self._wall())
        claims: dict[str, Any] = {
            "user_id": device.user_id,
            "device_id": device_identity(device.device_id),
            "client_id": client_identity(device.client_id),
            "scope": scope,
            "iat": now,
            "exp": now + math.ceil(ttl),
        }
        if device.guest:
            claims["guest"] = True
        if self._roster is None:
            claims["by_hand"] = True
        elif (held := self._roster.get(claims["device_id"])) is not None:
            claims["revision"] = held.revision
        if self._settings.issuer:
            claims["iss"] = self._settings.issuer
        return jwt.encode(claims, self._keys.signing, algorithm=self._keys.algorithm)

    def verify(self, token: str | None, device_id: str, scope: str) -> Device:
        """See :class:`IDeviceTokens`. The device id decides before the token."""
        device_id = device_identity(device_id)
        text = bare_token(token)
        if not text:
            raise AuthError("missing_token", "a token is needed; a device gets its own from OTA")
        claims = self.claims(text)
        if claims.get("scope", DEVICE_SCOPE) != scope:
            raise AuthError("wrong_scope", f"the token is not for scope {scope}", 403)
        owner = claims.get("device_id")
        if not isinstance(owner, str) or _same_form(owner) != device_id:
            raise AuthError("wrong_device", "the token belongs to another device", 403)
        user = claims.get("user_id") or claims.get("sub")
        if not isinstance(user, str) or not user.isprintable() or len(user) > 255:
            raise AuthError("bad_token", "the token names no user")
        client = claims.get("client_id") or ""
        if not isinstance(client, str) or (client and not _IDENTIFIER.fullmatch(client)):
            raise AuthError("bad_token", "the token's client_id is invalid")
        if self._roster is not None:
            self._roster.check(device_id, claims)
        guest = claims.get("guest") is True
        return Device(device_id=device_id, client_id=client, user_id=user, guest=guest)

    def authenticate(self, token: str | None, device_id: str, client_id: str) -> Device:
        """See :class:`IAuthenticator`. A client id counts only where both the
        token and the device name one, and is compared without case."""
        client_id = client_identity(client_id)
        device = self.verify(token, device_id, DEVICE_SCOPE)
        if device.client_id and client_id and device.client_id.lower() != client_id.lower():
            raise AuthError("wrong_client", "the token belongs to another client", 403)
        return Device(
            device_id=device.device_id,
            client_id=client_id or device.client_id,
            user_id=device.user_id,
            guest=device.guest,
        )

    def claims(self, token: str) -> Mapping[str, Any]:
        """Return the claims of a bare token with valid signature and times.

        :raises AuthError: 401 ``bad_token``, ``token_expired`` or
            ``token_not_yet_valid``.
        """
        if len(token) > _LONGEST_TOKEN or not token.isascii():
            raise AuthError("bad_token", "this is not a token")
        try:
            # Times are checked below, on our clock; never trust the header's algorithm.
            claims = jwt.decode(
                token,
                self._keys.checking,
                algorithms=[self._keys.algorithm],
                options={
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": False,
                    "require": ["exp"],
                },
                issuer=self._settings.issuer or None,
            )
        except jwt.InvalidSignatureError:
            raise AuthError("bad_token", "the token was not signed with our key") from None
        except jwt.InvalidIssuerError:
            raise AuthError("bad_token", "the token comes from another issuer") from None
        except jwt.MissingRequiredClaimError as error:
            raise AuthError("bad_token", f"the token has no {error.claim}") from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise AuthError("bad_token", "this is not a token of ours") from None
        self._check_times(claims)
        return claims

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now, leeway = self._wall(), self._settings.leeway
        expires, begins = _seconds(claims, "exp"), _seconds(claims, "nbf")
        if expires is None or expires + leeway <= now:
            raise AuthError("token_expired", "the token has expired; ask OTA for a new one")
        if begins is not None and begins - leeway > now:
            raise AuthError("token_not_yet_valid", "the token is not valid yet")


def _same_form(device_id: str) -> str:
    return device_id.lower() if _MAC.fullmatch(device_id) else device_id


def _seconds(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        # JSON allows integers too large for a float. NaN fails, too.
        or not -_LATEST <= value <= _LATEST
    ):
        raise AuthError("bad_token", f"the token's {name} is not a time")
    return value


@implementer(IDeviceTokens, IAuthenticator)
class OpenAuthenticator:
    """Admits every device that sends its id: ``auth.required: false``.

    A valid token names the device's user; an invalid one is ignored. An owned device id is
    for its client only; an unowned one makes a guest.
    """

    def __init__(self, tokens: JwtTokens, roster: Roster | None = None) -> None:
        """:param roster: owners of devices; None: any client that sends the id."""
        self._tokens = tokens
        self._roster = roster

    def issue(self, device: Device, scope: str, ttl: float) -> str:
        """Issue a real token, which stays valid when authentication is switched on."""
        return self._tokens.issue(device, scope, ttl)

    def verify(self, token: str | None, device_id: str, scope: str) -> Device:
        """See :class:`IDeviceTokens`.

        :raises AuthError: 400; no usable device id. 403 ``revoked``.
        """
        device_id = device_identity(device_id)
        try:
            return self._tokens.verify(token, device_id, scope)
        except AuthError as error:
            if error.code == "revoked":
                raise
            self._refuse_revoked(device_id)
            return Device(device_id=device_id, client_id="", user_id=open_user(device_id))

    def _refuse_revoked(self, device_id: str) -> None:
        held = None if self._roster is None else self._roster.get(device_id)
        if held is not None and held.state is DeviceState.REVOKED:
            raise AuthError("revoked", "this device was revoked; it must be approved again", 403)

    def authenticate(self, token: str | None, device_id: str, client_id: str) -> Device:
        """See :class:`IAuthenticator`.

        :raises AuthError: 400; an invalid id. 403; another client owns the device, or it
            was revoked.
        """
        client_id = client_identity(client_id)
        device_id = device_identity(device_id)
        try:
            device = self._tokens.verify(token, device_id, DEVICE_SCOPE)
        except AuthError:
            guest = self._roster is not None and not self._roster.knows(device_id, client_id)
            return Device(device_id, client_id, open_user(device_id), guest)
        return Device(
            device_id=device.device_id,
            client_id=client_id or device.client_id,
            user_id=device.user_id,
            guest=device.guest,
        )


def make_tokens(
    settings: AuthSettings, clock: IReactorTime, roster: Roster | None = None
) -> JwtTokens | OpenAuthenticator:
    """Issue and verify tokens as the settings require.

    :param roster: owners of devices.
    :raises ConfigError: see :func:`load_keys`.
    """
    tokens = JwtTokens(load_keys(settings), settings, clock, roster)
    return tokens if settings.required else OpenAuthenticator(tokens, roster)
