"""Errors that the software device raises."""

from __future__ import annotations

from xiaozhi.base.errors import XiaozhiError


class DeviceError(XiaozhiError):
    """The device could not carry out a request.

    Codes: ``cannot_connect``, ``refused`` (an HTTP status instead of the 101),
    ``no_hello``, ``closed``, ``timeout``, ``crash`` (the server sent a message that
    crashes real devices), ``bad_ota``, ``photo_failed``, ``bad_state``.
    """
