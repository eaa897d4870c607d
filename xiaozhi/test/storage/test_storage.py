"""The session store on SQLite, the schema, and addresses."""

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, DeferredList
from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from xiaozhi.base.errors import StoreError
from xiaozhi.base.values import SessionStatus
from xiaozhi.storage import store_from_url
from xiaozhi.storage.schema import MIGRATIONS, Migration, render, sqlite_form
from xiaozhi.testing.contracts.store import StoreContract, message, started
from xiaozhi.testing.database import memory_store

_ROOT = Path(__file__).parents[3]


class SqliteStoreTests(StoreContract, TestCase):
    def setUp(self) -> None:
        self.store = memory_store()
        self.successResultOf(self.store.start())
        self.addCleanup(self.store.stop)

    def test_is_synchronous(self) -> None:
        self.assertIsNone(self.successResultOf(self.store.append([started()])))


class SchemaTests(SynchronousTestCase):
    def test_schema_sql_equals_the_store_s_schema(self) -> None:
        schema = _ROOT / "schema.sql"
        if not (_ROOT / "setup.cfg").exists():
            raise SkipTest("installed, not a checkout: there is no schema.sql to compare")
        self.assertEqual(schema.read_text(), render(), "run make schema")

    def test_nothing_of_postgresql_is_left_in_sqlites_form(self) -> None:
        text = "\n".join(sqlite_form(s) for m in MIGRATIONS for s in m.statements)
        self.assertIsNone(re.search(r"TIMESTAMPTZ|JSONB|UUID|NOW\(|VARCHAR|gen_random", text))
        self.assertIn("CHECK (length(session_id) <= 255)", text)

    def test_defaults_work_by_hand(self) -> None:
        database = sqlite3.connect(":memory:")
        self.addCleanup(database.close)
        for statement in MIGRATIONS[0].statements:
            database.execute(sqlite_form(statement))
        database.execute(
            "INSERT INTO device_sessions (session_id, device_id, user_id) VALUES ('s', 'd', 'u')"
        )
        for _ in range(2):
            database.execute(
                "INSERT INTO message_logs (session_id, message_type) VALUES ('s', 't')"
            )
        status, metadata, at = database.execute(
            "SELECT status, metadata, created_at FROM device_sessions"
        ).fetchone()
        self.assertEqual((status, metadata), ("active", "{}"))
        self.assertRegex(at, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00$")
        [one], [two] = database.execute("SELECT id FROM message_logs").fetchall()
        self.assertRegex(one, r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$")
        self.assertNotEqual(one, two)

    def test_checks_and_foreign_keys_hold(self) -> None:
        path = self.mktemp()
        store = memory_store(path)
        self.successResultOf(store.start())
        self.successResultOf(store.stop())
        database = sqlite3.connect(path)
        self.addCleanup(database.close)
        database.execute("PRAGMA foreign_keys = ON")
        for statement in (
            (
                "INSERT INTO device_sessions (session_id, device_id, user_id, status)"
                " VALUES ('s', 'd', 'u', 'asleep')"
            ),
            "INSERT INTO message_logs (session_id, message_type) VALUES ('ghost', 't')",
            "INSERT INTO schema_version (only_row, version) VALUES (2, 7)",
        ):
            self.assertRaises(sqlite3.IntegrityError, database.execute, statement)
        indexes = {
            name
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'index'")
        }
        for name in re.findall(r"CREATE INDEX (\w+)", render()):
            self.assertIn(name, indexes)


class UpgradeTests(SynchronousTestCase):
    def test_starting_again_keeps_the_rows(self) -> None:
        path = self.mktemp()
        first = memory_store(path)
        self.successResultOf(first.start())
        self.successResultOf(first.append([started()]))
        self.successResultOf(first.stop())
        second = memory_store(path)
        self.successResultOf(second.start())
        self.assertIsNotNone(self.successResultOf(second.session("s1")))
        self.successResultOf(second.stop())

    def test_only_the_missing_migrations_run(self) -> None:
        path = self.mktemp()
        old = memory_store(path)
        self.successResultOf(old.start())
        self.successResultOf(old.append([started()]))
        self.successResultOf(old.stop())
        more = (*MIGRATIONS, Migration("rooms", ("ALTER TABLE device_sessions ADD room TEXT",)))
        for _ in range(2):
            new = memory_store(path, more)
            self.successResultOf(new.start())
            self.assertIsNotNone(self.successResultOf(new.session("s1")))
            self.successResultOf(new.stop())
        self.assertEqual(self._version(path), len(more))

    def test_a_failing_migration_leaves_the_old_schema(self) -> None:
        path = self.mktemp()
        old = memory_store(path)
        self.successResultOf(old.start())
        self.successResultOf(old.stop())
        broken = Migration("broken", ("CREATE TABLE rooms (id TEXT)", "NONSENSE"))
        new = memory_store(path, (*MIGRATIONS, broken))
        error = self.failureResultOf(new.start(), StoreError).value
        self.assertIn("syntax error", error.message)
        self.assertEqual(self._version(path), len(MIGRATIONS))
        database = sqlite3.connect(path)
        self.addCleanup(database.close)
        found = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'rooms'").fetchone()
        self.assertIsNone(found)

    def test_a_newer_database_is_not_changed(self) -> None:
        path = self.mktemp()
        new = memory_store(path, (*MIGRATIONS, Migration("later", ())))
        self.successResultOf(new.start())
        self.successResultOf(new.stop())
        error = self.failureResultOf(memory_store(path).start(), StoreError).value
        self.assertEqual(error.code, "schema_too_new")
        self.assertIn(f"version {len(MIGRATIONS) + 1}", error.message)
        self.assertIn(path, error.message)

    def test_foreign_tables_are_not_changed(self) -> None:
        path = self.mktemp()
        database = sqlite3.connect(path)
        database.execute("CREATE TABLE device_sessions (x TEXT)")
        database.close()
        error = self.failureResultOf(memory_store(path).start(), StoreError).value
        self.assertEqual(error.code, "schema_foreign")

    def _version(self, path: str) -> int:
        database = sqlite3.connect(path)
        self.addCleanup(database.close)
        [(version,)] = database.execute("SELECT version FROM schema_version").fetchall()
        return int(version)


class UnreachableTests(SynchronousTestCase):
    def test_no_directory_can_be_made(self) -> None:
        path = self.mktemp()
        Path(path).write_text("a file where a directory should be")
        error = self._refused(f"{path}/im.sqlite3")
        self.assertIn(f"sqlite:///{path}/im.sqlite3", error.message)
        self.assertIn("may write there", error.message)

    def test_a_directory_in_the_place_of_the_file(self) -> None:
        path = self.mktemp()
        os.mkdir(path)
        self.assertIn("directory", self._refused(path).message)

    def test_not_a_database(self) -> None:
        path = self.mktemp()
        Path(path).write_text("certainly no database" * 100)
        self.assertIn("not a database", self._refused(path).message)

    def _refused(self, path: str) -> StoreError:
        error = self.failureResultOf(memory_store(path).start(), StoreError).value
        self.assertEqual(error.code, "store_unavailable")
        self.assertNotIn("\n", error.message)
        assert isinstance(error, StoreError)
        return error


class AddressTests(SynchronousTestCase):
    def test_neither_sqlite_nor_postgresql(self) -> None:
        for url in ("", "mysql://u:geheim@h/d", "sqlite://", "sqlite:///", "/var/im:geheim"):
            error = self.assertRaises(StoreError, store_from_url, url, object())
            self.assertEqual(error.code, "bad_store_url")
            self.assertNotIn("geheim", error.message)

    def test_a_postgresql_address_that_cannot_be_read(self) -> None:
        for url in ("postgresql://u:geheim@[::1/d", "postgresql://u:geheim@h/d?x=1 2"):
            error = self.assertRaises(StoreError, store_from_url, url, object())
            self.assertEqual(error.code, "bad_store_url")
            self.assertNotIn("geheim", str(error))


class ThreadedSqliteTests(TestCase):
    """The pool as in production."""

    async def test_writes_from_many_calls_at_once(self) -> None:
        path = os.path.join(self.mktemp(), "new", "im.sqlite3")
        store = store_from_url(f"sqlite:///{path}", reactor)
        await store.start()
        await store.append([started()])
        await DeferredList([store.append([message(n)]) for n in range(20)], fireOnOneErrback=True)
        self.assertEqual(len(await store.messages("s1", 100)), 20)
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        row = await store.session("s1")
        assert row is not None
        self.assertEqual(row.status, SessionStatus.ACTIVE)
        await store.stop()

    async def test_a_new_file_that_another_process_is_using(self) -> None:
        path = self.mktemp()
        other = sqlite3.connect(path)
        other.execute("BEGIN IMMEDIATE")
        store = store_from_url(f"sqlite:///{path}", reactor)
        starting = store.start()
        await deferLater(reactor, 0.05)  # let the thread run into the lock
        self.assertNoResult(starting)
        other.rollback()
        other.close()
        await starting
        await store.stop()

    async def test_stopping_waits_for_running_calls(self) -> None:
        path = self.mktemp()
        store = store_from_url(f"sqlite:///{path}", reactor)
        await store.start()
        writing = store.append([started()])
        await store.stop()
        await writing
        again = store_from_url(f"sqlite:///{path}", reactor)
        await again.start()
        self.assertIsNotNone(await again.session("s1"))
        await again.stop()

    async def test_stopping_waits_for_cancelled_calls_too(self) -> None:
        path = self.mktemp()
        store = store_from_url(f"sqlite:///{path}", reactor)
        await store.start()
        other = sqlite3.connect(path)
        other.execute("BEGIN IMMEDIATE")
        writing = store.append([started()])
        await deferLater(reactor, 0.05)  # let the thread run into the lock
        writing.cancel()
        self.failureResultOf(writing, CancelledError)
        stopping = store.stop()
        self.assertNoResult(stopping)
        other.rollback()
        other.close()
        await stopping
