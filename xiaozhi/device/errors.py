"""Errors of a software device."""

from __future__ import annotations

from xiaozhi.base.errors import XiaozhiError


class DeviceError(XiaozhiError):
    """The device could not do what was asked of it.

    Codes: ``cannot_connect``, ``refused`` (an HTTP status instead of the 101),
    ``no_hello``, ``closed``, ``timeout``, ``crash`` (what the server sent would
    have crashed a real device), ``bad_ota``, ``photo_failed``, ``bad_state``.
    """
