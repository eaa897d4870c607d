"""The device registry in SQLite or PostgreSQL: ownership of device ids."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from xiaozhi.base.errors import StoreError
from xiaozhi.base.ownership import (
    Applicant,
    ClaimLimits,
    DeviceClaim,
    DeviceState,
    Registered,
    UnknownDevice,
)
from xiaozhi.interfaces import IDeviceRegistry
from xiaozhi.storage.database import Database
from xiaozhi.storage.dialects import SqlDialect
from xiaozhi.storage.forms import aware, text

_DEVICE = (
    "device_id, client_digest, serial_digest, state, revision, revoked_at, used, about,"
    " first_seen_at, last_seen_at"
)
_CLAIM = (
    "code, device_id, client_digest, serial_digest, about, attempts, first_seen_at,"
    " last_seen_at, expires_at"
)


@implementer(IDeviceRegistry)
class SqlDeviceRegistry(Database):
    """The tables ``devices``, ``device_claims`` and ``device_revision``."""

    def changes(self, after: int, limit: int) -> Deferred[list[Registered]]:
        return self._run(partial(changes, dialect=self._dialect, after=after, limit=limit))

    def apply(
        self, who: Applicant, unknown: UnknownDevice, limits: ClaimLimits, at: datetime
    ) -> Deferred[Registered | DeviceClaim | None]:
        work = partial(
            apply, dialect=self._dialect, who=who, unknown=unknown, limits=limits, at=aware(at)
        )
        return self._run(work)

    def approve(self, code: str, at: datetime) -> Deferred[Registered]:
        return self._run(partial(approve, dialect=self._dialect, code=code, at=aware(at)))

    def revoke(self, device_id: str, at: datetime) -> Deferred[Registered]:
        return self._run(partial(revoke, dialect=self._dialect, device_id=device_id, at=aware(at)))

    def seen(self, devices: Mapping[str, bool], at: datetime) -> Deferred[None]:
        return self._run(partial(seen, dialect=self._dialect, devices=dict(devices), at=aware(at)))

    def devices(self, limit: int) -> Deferred[list[Registered]]:
        return self._run(partial(devices, dialect=self._dialect, limit=limit))

    def claims(self, at: datetime, limit: int) -> Deferred[list[DeviceClaim]]:
        return self._run(partial(claims, dialect=self._dialect, at=aware(at), limit=limit))

    def purge(self, unused_before: datetime, at: datetime, limit: int) -> Deferred[int]:
        work = partial(
            _purge,
            dialect=self._dialect,
            unused_before=aware(unused_before),
            at=aware(at),
            limit=limit,
        )
        return self._run(work)


def changes(cursor: Any, dialect: SqlDialect, after: int, limit: int) -> list[Registered]:
    """See :class:`IDeviceRegistry`; runs in the caller's transaction."""
    statement = f"SELECT {_DEVICE} FROM devices WHERE revision > %s ORDER BY revision LIMIT %s"
    cursor.execute(dialect.sql(statement), (after, limit))
    return [_device(dialect, row) for row in cursor.fetchall()]


def devices(cursor: Any, dialect: SqlDialect, limit: int) -> list[Registered]:
    """See :class:`IDeviceRegistry`."""
    statement = f"SELECT {_DEVICE} FROM devices ORDER BY last_seen_at DESC, device_id LIMIT %s"
    cursor.execute(dialect.sql(statement), (limit,))
    return [_device(dialect, row) for row in cursor.fetchall()]


def claims(cursor: Any, dialect: SqlDialect, at: datetime, limit: int) -> list[DeviceClaim]:
    """See :class:`IDeviceRegistry`."""
    statement = (
        f"SELECT {_CLAIM} FROM device_claims WHERE expires_at > %s"
        " ORDER BY last_seen_at DESC, code LIMIT %s"
    )
    cursor.execute(dialect.sql(statement), (dialect.time_to(at), limit))
    return [_claim(dialect, row) for row in cursor.fetchall()]


def apply(
    cursor: Any,
    dialect: SqlDialect,
    who: Applicant,
    unknown: UnknownDevice,
    limits: ClaimLimits,
    at: datetime,
) -> Registered | DeviceClaim | None:
    """See :class:`IDeviceRegistry`."""
    # Locked first, so that two simultaneous claims follow each other.
    revision = _next_revision(cursor, dialect)
    held = _find(cursor, dialect, who.device_id)
    if held is None:
        if unknown is UnknownDevice.REFUSE:
            return None
        if unknown is UnknownDevice.ASK:
            return _ask(cursor, dialect, who, limits, at)
        cursor.execute("SELECT COUNT(*) FROM devices")
        if int(cursor.fetchone()[0]) >= limits.devices:
            raise StoreError("registry_full", "the registry holds its limit of devices")
        return _bind(cursor, dialect, who, revision, at)
    if not held.belongs_to(who):
        return _ask(cursor, dialect, who, limits, at)
    if who.serial and not held.serial:
        return _bind(cursor, dialect, who, revision, at)
    return held


def approve(cursor: Any, dialect: SqlDialect, code: str, at: datetime) -> Registered:
    """See :class:`IDeviceRegistry`."""
    revision = _next_revision(cursor, dialect)
    statement = f"SELECT {_CLAIM} FROM device_claims WHERE code = %s AND expires_at > %s"
    cursor.execute(dialect.sql(statement), (text(code), dialect.time_to(at)))
    row = cursor.fetchone()
    if row is None:
        raise StoreError("no_such_code", "no device waits with this code")
    claim = _claim(dialect, row)
    if not claim.client:
        raise StoreError("no_client_id", "the device with this code sent no client id to bind to")
    who = Applicant(claim.device_id, claim.client, claim.serial, claim.about)
    _forget_claims(cursor, dialect, claim.device_id)
    return _bind(cursor, dialect, who, revision, at)


def revoke(cursor: Any, dialect: SqlDialect, device_id: str, at: datetime) -> Registered:
    """See :class:`IDeviceRegistry`."""
    revision = _next_revision(cursor, dialect)
    _forget_claims(cursor, dialect, device_id)
    if _find(cursor, dialect, device_id) is None:
        _bind(cursor, dialect, Applicant(text(device_id), ""), revision, at)
    statement = (
        "UPDATE devices SET state = 'revoked', revision = %s, revoked_at = %s WHERE device_id = %s"
    )
    cursor.execute(dialect.sql(statement), (revision, int(at.timestamp()), text(device_id)))
    found = _find(cursor, dialect, device_id)
    assert found is not None
    return found


def seen(cursor: Any, dialect: SqlDialect, devices: Mapping[str, bool], at: datetime) -> None:
    """See :class:`IDeviceRegistry`."""
    for used, change in ((False, ""), (True, ", used = TRUE")):
        rows = [
            (dialect.time_to(at), text(each)) for each, opened in devices.items() if opened is used
        ]
        if rows:
            dialect.execute_each(
                cursor,
                f"UPDATE devices SET last_seen_at = %s{change} WHERE device_id = %s",
                rows,
            )


def _purge(
    cursor: Any, dialect: SqlDialect, unused_before: datetime, at: datetime, limit: int
) -> int:
    if not dialect.alone(cursor, "devices"):
        return 0
    statement = (
        "DELETE FROM device_claims WHERE code IN"
        " (SELECT code FROM device_claims WHERE expires_at <= %s LIMIT %s)"
    )
    cursor.execute(dialect.sql(statement), (dialect.time_to(at), limit))
    removed = int(cursor.rowcount)
    # A revoked device stays revoked.
    statement = (
        "DELETE FROM devices WHERE device_id IN (SELECT device_id FROM devices"
        " WHERE last_seen_at < %s AND NOT used AND state = 'approved' LIMIT %s)"
    )
    cursor.execute(dialect.sql(statement), (dialect.time_to(unused_before), limit - removed))
    return removed + int(cursor.rowcount)


def _next_revision(cursor: Any, dialect: SqlDialect) -> int:
    """Increment the revision. The row stays locked until the transaction ends, so revisions
    become visible in order and a reader of newer ones misses none.
    """
    cursor.execute("UPDATE device_revision SET revision = revision + 1")
    cursor.execute("SELECT revision FROM device_revision")
    return int(cursor.fetchone()[0])


def _find(cursor: Any, dialect: SqlDialect, device_id: str) -> Registered | None:
    statement = f"SELECT {_DEVICE} FROM devices WHERE device_id = %s"
    cursor.execute(dialect.sql(statement), (text(device_id),))
    row = cursor.fetchone()
    return None if row is None else _device(dialect, row)


def _bind(
    cursor: Any, dialect: SqlDialect, who: Applicant, revision: int, at: datetime
) -> Registered:
    """Bind a device id to an applicant, replacing any holder."""
    moment = dialect.time_to(at)
    about = text(who.about)[:255]
    statement = (
        "INSERT INTO devices (device_id, client_digest, serial_digest, state, revision, about,"
        " first_seen_at, last_seen_at) VALUES (%s, %s, %s, 'approved', %s, %s, %s, %s)"
        " ON CONFLICT (device_id) DO UPDATE SET client_digest = excluded.client_digest,"
        " serial_digest = excluded.serial_digest, state = 'approved',"
        " revision = excluded.revision, about = excluded.about,"
        " last_seen_at = excluded.last_seen_at"
    )
    row = (text(who.device_id), who.client, who.serial, revision, about, moment, moment)
    cursor.execute(dialect.sql(statement), row)
    found = _find(cursor, dialect, who.device_id)
    assert found is not None
    return found


def _ask(
    cursor: Any, dialect: SqlDialect, who: Applicant, limits: ClaimLimits, at: datetime
) -> DeviceClaim:
    moment = dialect.time_to(at)
    device_id = text(who.device_id)
    same = "device_id = %s AND client_digest = %s AND serial_digest = %s"
    key = (device_id, who.client, who.serial)
    cursor.execute(
        dialect.sql(
            "UPDATE device_claims SET attempts = attempts + 1, last_seen_at = %s"
            f" WHERE {same} AND expires_at > %s"
        ),
        (moment, *key, moment),
    )
    if not cursor.rowcount:
        cursor.execute(
            dialect.sql(f"DELETE FROM device_claims WHERE expires_at <= %s OR ({same})"),
            (moment, *key),
        )
        _make_room(cursor, dialect, " WHERE device_id = %s", (device_id,), limits.claims_per_device)
        _make_room(cursor, dialect, "", (), limits.claims)
        expires = dialect.time_to(at + timedelta(seconds=limits.ttl))
        row = (_new_code(cursor, dialect), *key, text(who.about)[:255], 1, moment, moment, expires)
        dialect.insert(cursor, "device_claims", _CLAIM, [row])
    cursor.execute(dialect.sql(f"SELECT {_CLAIM} FROM device_claims WHERE {same}"), key)
    return _claim(dialect, cursor.fetchone())


def _make_room(
    cursor: Any, dialect: SqlDialect, where: str, values: tuple[object, ...], limit: int
) -> None:
    """Drop claims with the fewest attempts first: a real device asks again, an invented
    client id does not return.
    """
    cursor.execute(dialect.sql(f"SELECT COUNT(*) FROM device_claims{where}"), values)
    excess = int(cursor.fetchone()[0]) - limit + 1
    if excess > 0:
        statement = (
            "DELETE FROM device_claims WHERE code IN (SELECT code FROM device_claims"
            f"{where} ORDER BY attempts, last_seen_at LIMIT %s)"
        )
        cursor.execute(dialect.sql(statement), (*values, excess))


def _new_code(cursor: Any, dialect: SqlDialect) -> str:
    for _ in range(100):
        code = f"{secrets.randbelow(1_000_000):06d}"
        cursor.execute(dialect.sql("SELECT 1 FROM device_claims WHERE code = %s"), (code,))
        if cursor.fetchone() is None:
            return code
    raise StoreError("registry_full", "no code is left for another claim")


def _forget_claims(cursor: Any, dialect: SqlDialect, device_id: str) -> None:
    cursor.execute(
        dialect.sql("DELETE FROM device_claims WHERE device_id = %s"), (text(device_id),)
    )


def _device(dialect: SqlDialect, row: Any) -> Registered:
    device_id, client, serial, state, revision, revoked_at, used, about, first, last = row
    return Registered(
        device_id,
        client,
        serial,
        DeviceState(state),
        int(revision),
        int(revoked_at),
        bool(used),
        about,
        dialect.time_from(first),
        dialect.time_from(last),
    )


def _claim(dialect: SqlDialect, row: Any) -> DeviceClaim:
    code, device_id, client, serial, about, attempts, first, last, expires = row
    return DeviceClaim(
        code,
        device_id,
        client,
        serial,
        about,
        int(attempts),
        dialect.time_from(first),
        dialect.time_from(last),
        dialect.time_from(expires),
    )
