"""Upgrade of a database to the current schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xiaozhi.base.errors import StoreError
from xiaozhi.storage.dialects import SqlDialect
from xiaozhi.storage.schema import MIGRATIONS, VERSION_TABLE, Migration


def upgrade(cursor: Any, dialect: SqlDialect, migrations: Sequence[Migration] = MIGRATIONS) -> int:
    """Apply the missing migrations in the caller's transaction.

    Processes that start together take turns: the later finds the work done.

    :return: the version found, 0 for an empty database.
    :raises StoreError: ``schema_too_new`` or ``schema_foreign``.
    """
    dialect.lock_schema(cursor)
    version = _version(cursor, dialect)
    if version > len(migrations):
        raise StoreError(
            "schema_too_new",
            f"the session store at {dialect.address} has schema version {version},"
            f" this program knows {len(migrations)}: install a newer xiaozhi-im",
        )
    for migration in migrations[version:]:
        for statement in migration.statements:
            cursor.execute(dialect.ddl(statement))
    if version < len(migrations):
        cursor.execute(dialect.sql("UPDATE schema_version SET version = %s"), (len(migrations),))
    return version


def _version(cursor: Any, dialect: SqlDialect) -> int:
    if dialect.has_table(cursor, "schema_version"):
        cursor.execute("SELECT version FROM schema_version")
        row = cursor.fetchone()
        if row is not None:
            return int(row[0])
    elif dialect.has_table(cursor, "device_sessions"):
        raise StoreError(
            "schema_foreign",
            f"the session store at {dialect.address} has a table device_sessions but no"
            " schema_version: give the service an empty database",
        )
    else:
        cursor.execute(dialect.ddl(VERSION_TABLE))
    cursor.execute("INSERT INTO schema_version (version) VALUES (0)")
    return 0
