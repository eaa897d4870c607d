"""Seams of storage: session log, spool, devices, dialogues, files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xiaozhi.base.ownership import Applicant, ClaimLimits, DeviceClaim, Registered, UnknownDevice
from xiaozhi.base.values import (
    DeviceNote,
    DialogueEntry,
    EventLogged,
    LogRecord,
    MessageLogged,
    SessionRow,
)


class ISessionStore(Interface):
    """The session, message and event log. Every method is one transaction."""

    def start() -> Deferred[None]:
        """Connect, create or upgrade the schema.

        :raises StoreError: naming the address and what to do.
        """

    def stop() -> Deferred[None]:
        """Close every connection."""

    def append(records: Sequence[LogRecord]) -> Deferred[None]:
        """Write in order, all or nothing. A record written before is skipped,
        so a batch whose outcome is unknown can be written again.

        :raises StoreError:
        """

    def session(session_id: str) -> Deferred[SessionRow | None]:
        """One session."""

    def sessions_of(device_id: str, limit: int) -> Deferred[list[SessionRow]]:
        """A device's sessions, newest first."""

    def messages(session_id: str, limit: int) -> Deferred[list[MessageLogged]]:
        """A session's messages in the order they were logged."""

    def events(session_id: str, limit: int) -> Deferred[list[EventLogged]]:
        """A session's events in the order they were logged."""

    def purge(before: datetime, limit: int) -> Deferred[int]:
        """Remove what is older: messages and events, and sessions that are over and
        that none of these refers to. Several processes may ask for it: one does it.

        :return: how many rows are gone; fewer than ``limit``: no more are to be had.
        """

    def close_left(
        node: str, started: datetime, silent_since: datetime, limit: int
    ) -> Deferred[int]:
        """Mark sessions as disconnected that a process has left behind: those of a
        node from before it was started, and any that have been silent for long.

        :return: how many; fewer than ``limit``: no more are left.
        """


class ISpool(Interface):
    """Log records on disk while the session store is away, oldest first."""

    count = Attribute("How many there are.")
    octets = Attribute("How much room they take.")
    oldest = Attribute("The time of the first one, or None.")

    def start() -> Deferred[None]:
        """Open it, with what an earlier process has left.

        :raises StoreError: it is unavailable; may be tried again.
        """

    def stop() -> Deferred[None]:
        """Close it; what it holds stays."""

    def put(records: Sequence[LogRecord], after: int = 0) -> Deferred[int]:
        """Add at the end. With no room left the oldest messages and events are
        dropped, and rows of sessions only when there is nothing else.

        :param after: what is numbered up to this is being written and stays.
        :return: how many were dropped, or cannot be kept.
        :raises StoreError: nothing was added; ``spool_broken``: see :meth:`renew`.
        """

    def take(limit: int) -> Deferred[list[tuple[int, LogRecord | None]]]:
        """The oldest, with their numbers; None for what cannot be read. They stay
        until they are discarded."""

    def discard(through: int) -> Deferred[None]:
        """Remove all up to this number."""

    def renew() -> Deferred[int]:
        """Put what is broken aside and begin anew. :return: how many are lost."""


class IDeviceRegistry(Interface):
    """Which client each device id is bound to, shared by all processes. Every method is
    one transaction; all raise StoreError."""

    def start() -> Deferred[None]:
        """Connect, create or upgrade the schema; may be tried again after a failure."""

    def stop() -> Deferred[None]:
        """Close every connection."""

    def changes(after: int, limit: int) -> Deferred[list[Registered]]:
        """Devices whose revision is greater than ``after``, in its order. None is
        skipped: revisions become visible in order."""

    def apply(
        who: Applicant, unknown: UnknownDevice, limits: ClaimLimits, at: datetime
    ) -> Deferred[Registered | DeviceClaim | None]:
        """Ask for a device id.

        Who holds it gets it, and its serial number is noted if none was known. For an id
        that nobody holds ``unknown`` says what happens. Anybody else gets a claim, the
        same while it lives, which changes nothing for the holder.

        :return: None: an id that nobody holds was refused.
        :raises StoreError: ``registry_full``: the registry holds its limit of devices.
        """

    def approve(code: str, at: datetime) -> Deferred[Registered]:
        """Give a device id to the claim with this code.

        :raises StoreError: ``no_such_code``: there is none, or no longer; ``no_client_id``:
            it names no client that the id could be bound to.
        """

    def revoke(device_id: str, at: datetime) -> Deferred[Registered]:
        """Revoke a device id: its owner and all tokens for it lose it."""

    def seen(devices: Mapping[str, bool], at: datetime) -> Deferred[None]:
        """Note that devices have asked for their configuration, or (True) opened a session."""

    def devices(limit: int) -> Deferred[list[Registered]]:
        """The devices seen last, newest first."""

    def claims(at: datetime, limit: int) -> Deferred[list[DeviceClaim]]:
        """The claims that live, newest first."""

    def purge(unused_before: datetime, at: datetime, limit: int) -> Deferred[int]:
        """Remove devices that never opened a session since a time, and dead claims.

        :return: how many; fewer than ``limit``: no more are to be had.
        """


class IDialogueStore(Interface):
    """Stores the dialogues of devices and the assistant, for as long as a
    conversation may be continued. Entries are added and removed, never changed: an old
    session that still writes cannot damage the entries of a new one."""

    def start() -> Deferred[None]:
        """Connect, create or upgrade the schema.

        :raises StoreError: naming the address and what to do; may be tried again.
        """

    def stop() -> Deferred[None]:
        """Close every connection."""

    def append(entries: Sequence[DialogueEntry | DeviceNote]) -> Deferred[None]:
        """Add them behind all there are, all or nothing. An entry added before is
        skipped, so a batch whose outcome is unknown can be written again. A note
        replaces the device's notes of its kind.

        :raises StoreError: ``store_rejected``: one of them cannot be kept.
        """

    def latest(device_id: str, limit: int, since: datetime) -> Deferred[list[DialogueEntry]]:
        """A device's newest entries in the order they were added.

        :param since: none that is older.
        :raises StoreError:
        """

    def notes(device_id: str) -> Deferred[list[DeviceNote]]:
        """A device's newest note of each kind.

        :raises StoreError:
        """

    def forget(device_id: str) -> Deferred[None]:
        """Remove all of a device's."""

    def purge(before: datetime, limit: int) -> Deferred[int]:
        """Remove the oldest entries and summaries of those before a time, at most
        ``limit`` of them. Roles stay: they tell nothing of a person.

        :return: how many; fewer than ``limit``: no more are to be had.
        """


class IFileStore(Interface):
    """Files that are kept for a while: phrases that have been spoken once, recordings,
    pictures. Each area has a bound of its own by age and by total size; what is
    oldest goes first."""

    def put(area: str, key: str, data: bytes) -> Deferred[str]:
        """Keep a file. It is there whole or not at all; one of that key is replaced.

        :param area: one of the areas the store was made with.
        :param key: any text; it is not the file's name, nor part of it.
        :return: the file's name within its area.
        :raises StoreError: it cannot be kept.
        """

    def writer(area: str) -> IFileWriter:
        """A new file that grows; its name tells when it was begun, and nothing else."""

    def get(area: str, key: str) -> Deferred[bytes | None]:
        """Return the bytes kept under a key, if they still exist.

        :raises StoreError:
        """


class IFileWriter(Interface):
    """A file that grows."""

    def write(data: bytes) -> Deferred[None]:
        """Add at its end, behind what was written before.

        :raises StoreError:
        """

    def close() -> Deferred[None]:
        """It is complete: from now on it is there. An abandoned
        one is removed later.

        :raises StoreError:
        """
