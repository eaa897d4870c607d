"""Presence: which device is connected where and what is kept for it, in this process
or through Redis."""

from xiaozhi.cache.backend import PresenceBackend, outside, presence_backend
from xiaozhi.cache.settings import InboxSettings, PresenceAddress, PresenceSettings

__all__ = [
    "InboxSettings",
    "PresenceAddress",
    "PresenceBackend",
    "PresenceSettings",
    "outside",
    "presence_backend",
]
