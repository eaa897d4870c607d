"""Presence and inboxes of devices, and the list of edges: in this process or in Redis."""

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
