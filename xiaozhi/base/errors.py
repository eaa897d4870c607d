"""The tree of errors. ``code`` is stable: devices, logs and tests rely on it."""

from __future__ import annotations


class XiaozhiError(Exception):
    """Base class of our errors.

    :ivar code: short, stable, ``snake_case``; safe to show to a device.
    :ivar message: one sentence for a person; never contains a secret.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} [{code}]")
        self.code = code
        self.message = message


class ProtocolError(XiaozhiError):
    """A peer violated the wire format."""


class AuthError(XiaozhiError):
    """A connection or request is refused.

    :ivar status: the HTTP status of the refusal: 400, 401 or 403.
    """

    def __init__(self, code: str, message: str, status: int = 401) -> None:
        super().__init__(code, message)
        self.status = status


class StoreError(XiaozhiError):
    """The session store or the presence cache failed."""


class BridgeError(XiaozhiError):
    """The other service is unreachable, or violated the bridge contract."""


class ConfigError(XiaozhiError):
    """The configuration is invalid; the message names the key."""

    def __init__(self, message: str) -> None:
        super().__init__("bad_config", message)


class ProviderError(XiaozhiError):
    """A recogniser, language model, synthesiser or vision model failed.

    :ivar retryable: whether the same call may succeed later or elsewhere.
    """

    def __init__(self, code: str, message: str, *, retryable: bool) -> None:
        super().__init__(code, message)
        self.retryable = retryable


class ToolError(XiaozhiError):
    """A tool call failed; the message is for the model."""
