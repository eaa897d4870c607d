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
        """Return a session; None: there is none."""

    def sessions_of(device_id: str, limit: int) -> Deferred[list[SessionRow]]:
        """Return a device's sessions, newest first."""

    def messages(session_id: str, limit: int) -> Deferred[list[MessageLogged]]:
        """Return a session's messages in the order they were logged."""

    def events(session_id: str, limit: int) -> Deferred[list[EventLogged]]:
        """Return a session's events in the order they were logged."""

    def purge(before: datetime, limit: int) -> Deferred[int]:
        """Remove older messages and events, and sessions that are over and that no row refers
        to. If several processes call it, one does the work.

        :return: how many rows were removed; fewer than ``limit``: no more are left.
        """

    def close_left(
        node: str, started: datetime, silent_since: datetime, limit: int
    ) -> Deferred[int]:
        """Mark abandoned sessions as disconnected: those of a node from before it was started,
        and any without activity since ``silent_since``.

        :return: how many; fewer than ``limit``: no more are left.
        """


class ISpool(Interface):
    """Log records on disk while the session store is away, oldest first."""

    count = Attribute("The number of records.")
    octets = Attribute("Their size in bytes.")
    oldest = Attribute("The time of the first record, or None.")

    def start() -> Deferred[None]:
        """Open the spool, with the records of an earlier process.

        :raises StoreError: it is unavailable; may be retried.
        """

    def stop() -> Deferred[None]:
        """Close the spool; its records remain."""

    def put(records: Sequence[LogRecord], after: int = 0) -> Deferred[int]:
        """Append records. If the spool is full, the oldest messages and events are dropped, and
        rows of sessions only if nothing else is left.

        :param after: records numbered up to this are being written, and are not dropped.
        :return: how many records were dropped or could not be stored.
        :raises StoreError: nothing was added; ``spool_broken``: see :meth:`renew`.
        """

    def take(limit: int) -> Deferred[list[tuple[int, LogRecord | None]]]:
        """Return the oldest records with their numbers, None for an unreadable record. They
        remain until they are discarded."""

    def discard(through: int) -> Deferred[None]:
        """Remove all records up to this number."""

    def renew() -> Deferred[int]:
        """Move broken files aside and start an empty spool.

        :return: how many records are lost.
        """


class IDeviceRegistry(Interface):
    """The binding of device ids to their owners, shared by all processes.

    Every method is one transaction; all raise StoreError.
    """

    def start() -> Deferred[None]:
        """Connect, create or upgrade the schema; may be retried after a failure."""

    def stop() -> Deferred[None]:
        """Close every connection."""

    def changes(after: int, limit: int) -> Deferred[list[Registered]]:
        """Return devices whose revision is greater than ``after``, in its order.

        None is skipped: revisions become visible in order.
        """

    def apply(
        who: Applicant, unknown: UnknownDevice, limits: ClaimLimits, at: datetime
    ) -> Deferred[Registered | DeviceClaim | None]:
        """Request a device id.

        Its owner receives its registration, and its serial number is stored if none was known.
        For an id without an owner, ``unknown`` decides. Any other client receives a claim, the
        same one until it expires, which does not affect the owner.

        :return: None: an id without an owner was refused.
        :raises StoreError: ``registry_full``: the registry has reached its limit of devices.
        """

    def approve(code: str, at: datetime) -> Deferred[Registered]:
        """Bind a device id to the client of the claim with this code.

        :raises StoreError: ``no_such_code``: unknown or expired; ``no_client_id``: the claim
            has no client id to bind.
        """

    def revoke(device_id: str, at: datetime) -> Deferred[Registered]:
        """Revoke a device id: its owner and all tokens for it become invalid."""

    def seen(devices: Mapping[str, bool], at: datetime) -> Deferred[None]:
        """Record that devices have requested their configuration, or (True) opened a session."""

    def devices(limit: int) -> Deferred[list[Registered]]:
        """Return the devices seen last, newest first."""

    def claims(at: datetime, limit: int) -> Deferred[list[DeviceClaim]]:
        """Return the valid claims, newest first."""

    def purge(unused_before: datetime, at: datetime, limit: int) -> Deferred[int]:
        """Remove devices that never opened a session and were last seen before a time, and
        expired claims.

        :return: how many; fewer than ``limit``: no more are left.
        """


class IDialogueStore(Interface):
    """Stores dialogues for as long as they may be continued.

    Entries are added and removed, never changed, so that an old session that still writes
    cannot damage the entries of a new one.
    """

    def start() -> Deferred[None]:
        """Connect, create or upgrade the schema.

        :raises StoreError: naming the address and what to do; may be retried.
        """

    def stop() -> Deferred[None]:
        """Close every connection."""

    def append(entries: Sequence[DialogueEntry | DeviceNote]) -> Deferred[None]:
        """Append entries, all or nothing.

        An entry that was added before is skipped, so a batch whose outcome is unknown can be
        written again. A note replaces the device's notes of its kind.

        :raises StoreError: ``store_rejected``: one of them is invalid.
        """

    def latest(device_id: str, limit: int, since: datetime) -> Deferred[list[DialogueEntry]]:
        """Return a device's newest entries in the order they were added.

        :param since: no older entries.
        :raises StoreError:
        """

    def notes(device_id: str) -> Deferred[list[DeviceNote]]:
        """Return a device's newest note of each kind.

        :raises StoreError:
        """

    def forget(device_id: str) -> Deferred[None]:
        """Remove all entries and notes of a device."""

    def purge(before: datetime, limit: int) -> Deferred[int]:
        """Remove up to ``limit`` entries and summaries from before a time, oldest first. Roles
        remain, as they contain nothing personal.

        :return: how many; fewer than ``limit``: no more are left.
        """


class IFileStore(Interface):
    """Files that are kept for a while: phrases, recordings, pictures.

    Each area has its own bounds of age and total size; the oldest files are removed first.
    """

    def put(area: str, key: str, data: bytes) -> Deferred[str]:
        """Store a file atomically, and replace one with the same key.

        :param area: one of the areas of the store.
        :param key: any text; the file's name does not contain it.
        :return: the file's name within its area.
        :raises StoreError: the file could not be stored.
        """

    def writer(area: str) -> IFileWriter:
        """Start a new file that grows; its name contains only the time of its start."""

    def get(area: str, key: str) -> Deferred[bytes | None]:
        """Return the bytes kept under a key, if they still exist.

        :raises StoreError:
        """


class IFileWriter(Interface):
    """A file that grows."""

    def write(data: bytes) -> Deferred[None]:
        """Append data.

        :raises StoreError:
        """

    def close() -> Deferred[None]:
        """Complete the file, which becomes visible now. A file that is never closed is removed
        later.

        :raises StoreError:
        """
