"""Authentication: signed device tokens (JWT) and the keys that sign them.

Both services use the same settings and so the same key: the edge checks the tokens that the
AI service issues.
"""

from xiaozhi.auth.admin import AdminToken, admin_token
from xiaozhi.auth.keys import KeyFile, Keys, load_keys, read_secret
from xiaozhi.auth.roster import Roster
from xiaozhi.auth.settings import AuthSettings, DevicesSettings
from xiaozhi.auth.tokens import (
    DEVICE_SCOPE,
    VISION_SCOPE,
    JwtTokens,
    OpenAuthenticator,
    bare_token,
    client_identity,
    device_identity,
    make_tokens,
    open_user,
)

__all__ = [
    "DEVICE_SCOPE",
    "VISION_SCOPE",
    "AdminToken",
    "AuthSettings",
    "DevicesSettings",
    "JwtTokens",
    "KeyFile",
    "Keys",
    "OpenAuthenticator",
    "Roster",
    "admin_token",
    "bare_token",
    "client_identity",
    "device_identity",
    "load_keys",
    "make_tokens",
    "open_user",
    "read_secret",
]
