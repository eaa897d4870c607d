"""Presence: which device is connected where and what is kept for it, in this process
or through Redis."""

from xiaozhi.cache.settings import InboxSettings, PresenceAddress, PresenceSettings
from xiaozhi.cache.whereabouts import Whereabouts, outside, whereabouts

__all__ = [
    "InboxSettings",
    "PresenceAddress",
    "PresenceSettings",
    "Whereabouts",
    "outside",
    "whereabouts",
]
