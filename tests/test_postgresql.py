"""The stores on a real PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg2
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.servers import postgres
from xiaozhi.base.errors import StoreError
from xiaozhi.interfaces import ISessionStore
from xiaozhi.runtime.listening import free_port
from xiaozhi.storage import (
    devices_from_url,
    dialogues_from_url,
    store_from_url,
    tool_values_from_url,
)
from xiaozhi.storage.database import Connections
from xiaozhi.storage.dialects import Postgresql
from xiaozhi.storage.schema import MIGRATIONS, Migration
from xiaozhi.storage.store import SessionStore
from xiaozhi.testing.contracts.devices import DeviceRegistryContract
from xiaozhi.testing.contracts.dialogues import DialogueStoreContract
from xiaozhi.testing.contracts.store import StoreContract, at, message, started
from xiaozhi.testing.contracts.toolvalues import ToolStoreContract

_ROOT = Path(__file__).parents[1]
_NEWEST = [(len(MIGRATIONS),)]


class PostgresqlStoreTests(StoreContract, TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.store = store_from_url(postgres().create_database(), reactor)
        await self.store.start()
        self.addCleanup(self.store.stop)


class PostgresqlDialogueTests(DialogueStoreContract, TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.store = dialogues_from_url(postgres().create_database(), reactor)
        await self.store.start()
        self.addCleanup(self.store.stop)


class PostgresqlToolValueTests(ToolStoreContract, TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.store = tool_values_from_url(postgres().create_database(), reactor)
        self.addCleanup(self.store.stop)


class PostgresqlDeviceTests(DeviceRegistryContract, TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        # Several connections: transactions run concurrently.
        self.store = devices_from_url(postgres().create_database(), reactor, pool_size=4)
        await self.store.start()
        self.addCleanup(self.store.stop)


class SchemaFileTests(TestCase):
    async def test_psql_loads_the_store_s_schema(self) -> None:
        by_hand, by_store = postgres().create_database(), postgres().create_database()
        loaded = postgres().psql(by_hand, _ROOT / "schema.sql")
        self.assertEqual((loaded.returncode, loaded.stderr), (0, ""))
        store = store_from_url(by_store, reactor)
        await store.start()
        await store.stop()
        self.assertEqual(_catalog(by_hand), _catalog(by_store))
        self.assertEqual(
            postgres().execute("SELECT version FROM schema_version", by_hand), [(len(MIGRATIONS),)]
        )

    async def test_the_store_accepts_the_schema_loaded_by_psql(self) -> None:
        url = postgres().create_database()
        postgres().psql(url, _ROOT / "schema.sql")
        store = store_from_url(url, reactor)
        await store.start()
        await store.append([started(), message(1)])
        self.assertEqual(await store.messages("s1", 5), [message(1)])
        await store.stop()

    def test_the_tables_are_the_designed_ones(self) -> None:
        url = postgres().create_database()
        postgres().psql(url, _ROOT / "schema.sql")
        postgres().execute(
            "INSERT INTO device_sessions (session_id, device_id, user_id) VALUES ('s', 'd', 'u')",
            url,
        )
        postgres().execute(
            "INSERT INTO message_logs (session_id, message_type) VALUES ('s', 't')", url
        )
        [row] = postgres().execute(
            "SELECT status, metadata, connected_at = created_at, now() - updated_at < '1 minute'"
            " FROM device_sessions",
            url,
        )
        self.assertEqual(row, ("active", {}, True, True))
        tables = postgres().execute(
            "SELECT table_name FROM information_schema.tables"
            " WHERE table_schema = 'public' ORDER BY 1",
            url,
        )
        self.assertEqual(
            [name for (name,) in tables],
            [
                "connection_events",
                "device_claims",
                "device_notes",
                "device_revision",
                "device_sessions",
                "devices",
                "dialogue_entries",
                "message_logs",
                "schema_version",
                "tool_values",
            ],
        )


class StartTests(TestCase):
    async def test_many_stores_starting_at_once(self) -> None:
        url = postgres().create_database()
        stores = [store_from_url(url, reactor, pool_size=1) for _ in range(6)]
        await DeferredList([store.start() for store in stores], fireOnOneErrback=True)
        self.assertEqual(
            postgres().execute("SELECT version FROM schema_version", url), [(len(MIGRATIONS),)]
        )
        await DeferredList([store.stop() for store in stores])

    async def test_two_processes_starting_at_once(self) -> None:
        url = postgres().create_database()
        program = (
            "import sys; from twisted.internet import reactor, task\n"
            "from xiaozhi.storage import dialogues_from_url, store_from_url\n"
            "store = store_from_url(sys.argv[1], reactor)\n"
            "task.react(lambda _: store.start().addCallback(lambda _: store.stop()))\n"
        )
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", program, url], cwd=_ROOT, stderr=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        for process in processes:
            _, errors = await deferToThread(process.communicate, timeout=60)
            self.assertEqual((process.returncode, errors), (0, ""))
        self.assertEqual(
            postgres().execute("SELECT version FROM schema_version", url), [(len(MIGRATIONS),)]
        )

    async def test_a_failing_migration_leaves_the_old_schema(self) -> None:
        url = postgres().create_database()
        store = store_from_url(url, reactor)
        await store.start()
        await store.stop()
        before = _catalog(url)
        broken = Migration("broken", ("CREATE TABLE rooms (id TEXT)", "NONSENSE"))
        error = await _failure(
            SessionStore(Postgresql(url), reactor, migrations=(*MIGRATIONS, broken)).start()
        )
        self.assertIn("NONSENSE", error.message)
        self.assertEqual(_catalog(url), before)

    async def test_no_server(self) -> None:
        port = free_port()
        url = f"postgresql://xiaozhi:geheim@127.0.0.1:{port}/im"
        error = await _failure(store_from_url(url, reactor).start())
        self._check(error, f"postgresql://xiaozhi@127.0.0.1:{port}/im")
        self.assertIn("refused", error.message)

    async def test_wrong_password(self) -> None:
        url = postgres().url.replace(postgres().password, "geheim")
        error = await _failure(store_from_url(url, reactor).start())
        self._check(error, f"127.0.0.1:{postgres().port}")
        self.assertIn("password authentication failed", error.message)

    async def test_no_such_database(self) -> None:
        error = await _failure(store_from_url(postgres().url + "_ghost", reactor).start())
        self._check(error, "postgres_ghost")

    def _check(self, error: StoreError, address: str) -> None:
        self.assertEqual(error.code, "store_unavailable")
        self.assertIn(address, error.message)
        self.assertNotIn("\n", error.message)
        self.assertNotIn("geheim", str(error))
        self.assertNotIn(postgres().password, str(error))


class LossTests(TestCase):
    """The server goes away while the store is in use."""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        self.store: ISessionStore = store_from_url(
            postgres().create_database(), reactor, pool_size=3
        )
        await self.store.start()
        self.addCleanup(self.store.stop)
        await self.store.append([started()])
        # Every thread gets a connection that will become stale.
        await DeferredList([self.store.session("s1") for _ in range(12)], fireOnOneErrback=True)

    async def test_calls_fail_while_it_is_away_and_work_after(self) -> None:
        await deferToThread(postgres().kill)
        try:
            for _ in range(3):
                error = await _failure(self.store.append([message(1)]))
                self.assertEqual(error.code, "store_unavailable")
        finally:
            await deferToThread(postgres().restart)
        await self.store.append([message(1)])
        self.assertEqual(await self.store.messages("s1", 9), [message(1)])

    async def test_a_restart_between_calls_is_not_noticed(self) -> None:
        await deferToThread(postgres().restart)
        calls = [self.store.append([message(n)]) for n in range(12)]
        await DeferredList(calls, fireOnOneErrback=True)
        self.assertEqual(len(await self.store.messages("s1", 99)), 12)

    async def test_a_closed_connection_is_replaced(self) -> None:
        postgres().execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'xiaozhi-im'"
        )
        await self.store.append([message(1)])


class RetentionTests(TestCase):
    """Several edges share one database."""

    async def test_one_purges_and_the_others_pass(self) -> None:
        url = postgres().create_database()
        store = store_from_url(url, reactor)
        await store.start()
        self.addCleanup(store.stop)
        await store.append([started(), message(1)])
        other = psycopg2.connect(url)
        self.addCleanup(other.close)
        for job in ("purge", "close_left"):
            other.cursor().execute(f"SELECT pg_advisory_xact_lock(hashtextextended('{job}', 0))")
        self.assertEqual(await store.purge(at(99), 10), 0)
        self.assertEqual(await store.close_left("n", at(0), at(99), 10), 0)
        other.rollback()
        self.assertEqual(await store.close_left("n", at(0), at(99), 10), 1)
        self.assertEqual(await store.purge(at(99), 10), 2, "the message and its session")


class HangTests(TestCase):
    """The server is up but does not answer."""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        self.url = postgres().create_database()
        self.store = SessionStore(
            Postgresql(self.url), reactor, connections=Connections(answer_limit=1.5)
        )
        await self.store.start()
        self.addCleanup(self.store.stop)

    def lock(self) -> Any:
        """Hold a table until this connection is closed."""
        connection = psycopg2.connect(self.url)
        self.addCleanup(connection.close)
        connection.cursor().execute("LOCK TABLE message_logs IN ACCESS EXCLUSIVE MODE")
        return connection

    async def test_a_call_fails_in_time_and_the_next_one_works(self) -> None:
        lock = self.lock()
        error = await _failure(self.store.append([started(), message(1)]))
        self.assertEqual(error.code, "store_unavailable")
        self.assertIn("no answer within 1.5 s", error.message)
        lock.close()
        await self.store.append([started(), message(1)])
        self.assertEqual(await self.store.messages("s1", 5), [message(1)])

    async def test_stopping_does_not_wait_for_ever(self) -> None:
        self.lock()
        writing = self.store.append([started(), message(1)])
        await self.store.stop()
        self.assertEqual((await _failure(writing)).code, "store_unavailable")


async def _failure(starting: Deferred[None]) -> StoreError:
    try:
        await starting
    except StoreError as error:
        return error
    raise AssertionError("no StoreError")


def _catalog(url: str) -> list[list[tuple[object, ...]]]:
    """Return the columns, constraints and indexes of a database."""
    return [
        postgres().execute(statement, url)
        for statement in (
            (
                "SELECT table_name, column_name, data_type, character_maximum_length, is_nullable,"
                " column_default FROM information_schema.columns WHERE table_schema = 'public'"
                " ORDER BY table_name, ordinal_position"
            ),
            (
                "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)"
                " FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2"
            ),
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
        )
    ]
