"""Rows after conversations, in SQLite and in PostgreSQL, and two edges on one Redis."""

from __future__ import annotations

import functools
import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any
from uuid import UUID

import psycopg2.errors
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.guests import AI_SETS, IM_SETS, ServiceCase
from tests.servers import postgres, redis
from tests.services import Pair, ServiceProcess, shared
from xiaozhi.device.identity import Identity
from xiaozhi.testing.house import SPEECH


class Rows:
    """The three tables, for one session."""

    def __init__(self, select: Callable[[str], list[tuple[Any, ...]]], session_id: str) -> None:
        self.select = select
        self.session_id = session_id

    def session(self, columns: str) -> list[tuple[Any, ...]]:
        return self.about("device_sessions", columns)

    def about(self, table: str, columns: str, order: str = "created_at") -> list[tuple[Any, ...]]:
        return self.select(
            f"SELECT {columns} FROM {table} WHERE session_id = '{self.session_id}' ORDER BY {order}"
        )

    def check(self, case: TestCase, identity: Identity) -> None:
        """Check the rows of a spoken and a typed question, a device tool, and the disconnection."""
        case.assertEqual(
            self.session("device_id, client_id, user_id"),
            [(identity.device_id, identity.client_id, "tester")],
        )
        messages = self.about("message_logs", "message_type, direction, content")
        kinds = [(kind, direction) for kind, direction, _ in messages]
        case.assertEqual(kinds[:2], [("hello", "inbound"), ("hello", "outbound")])
        # One utterance, one answer, and one more for the typed text.
        utterances = [json.loads(text) for kind, way, text in messages if kind == "audio"]
        ways = [way for kind, way in kinds if kind == "audio"]
        case.assertEqual(ways.count("outbound"), 2, kinds)
        case.assertIn(ways.count("inbound"), (1, 2), kinds)
        for row in utterances:
            case.assertEqual(row["ms"], row["frames"] * 60)
            case.assertGreaterEqual(row["bytes"], row["frames"])
        texts = [text for kind, way, text in messages if (kind, way) == ("stt", "outbound")]
        case.assertEqual(texts, ["hello", "not so loud"])
        case.assertEqual(kinds.count(("tts", "outbound")), 6)
        calls = [text for kind, way, text in messages if kind == "mcp"]
        case.assertEqual([text.split()[0] for text in calls].count("tools/call"), 1, calls)
        events = self.about("connection_events", "event_type, event_data")
        case.assertEqual([kind for kind, _ in events], ["connected", "hello", "closed"])
        data = events[-1][1]
        closed = data if isinstance(data, dict) else json.loads(data)
        case.assertEqual(closed["code"], 1006)
        ids = self.about("message_logs", "id") + self.about("connection_events", "id")
        case.assertEqual(len({UUID(str(each)) for (each,) in ids}), len(ids))
        orphans = (
            "SELECT count(*) FROM {}"
            " WHERE session_id NOT IN (SELECT session_id FROM device_sessions)"
        )
        for table in ("message_logs", "connection_events"):
            case.assertEqual(self.select(orphans.format(table)), [(0,)])


class SqliteTests(ServiceCase, TestCase):
    """The default store."""

    def setUp(self) -> None:
        self.pair = shared(IM_SETS, AI_SETS)

    def tearDown(self) -> None:
        self.assert_clean(self.pair)

    async def test_log(self) -> None:
        """The rows of a conversation in SQLite."""
        guest = await self.guest(self.pair)
        session_id = guest.device.machine.session_id
        rows = Rows(lambda statement: self.select(self.pair, statement), session_id)
        await self.until(lambda: rows.session("status") == [("active",)], "an active session")
        await guest.device.say(SPEECH)
        await guest.device.text("not so loud")
        await guest.device.close()
        await self.until(lambda: rows.session("status") == [("disconnected",)], "its end")
        rows.check(self, guest.identity)
        self.assertEqual(self.select(self.pair, "PRAGMA foreign_key_check"), [])

    def select(self, pair: Pair, statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{pair.state / 'im.sqlite3'}?mode=ro", uri=True)) as db:
            return db.execute(statement).fetchall()


@functools.cache
def two_edges() -> tuple[str, Pair, ServiceProcess]:
    """Start a pair with this database, and another edge beside it."""
    database = postgres().create_database()
    sets = (*IM_SETS, f"store.url={database}", f"presence.url={redis().url}")
    pair = Pair((*sets, "node=first"), AI_SETS).start()
    return database, pair, pair.second_edge(*sets, "node=second")


class SharedStateTests(ServiceCase, TestCase):
    """Two edges on one PostgreSQL and one Redis."""

    def setUp(self) -> Deferred[None]:  # type: ignore[override]
        return deferToThread(self.begin)

    def begin(self) -> None:
        self.database, self.pair, self.second = two_edges()

    def tearDown(self) -> None:
        self.assert_clean(self.pair)

    def select(self, statement: str) -> list[tuple[Any, ...]]:
        return postgres().execute(statement, self.database)

    async def test_talk(self) -> None:
        """A conversation, its rows, and a device that moves from one edge to the other."""
        guest = await self.guest(self.pair)
        rows = Rows(self.select, guest.device.machine.session_id)
        await self.until(lambda: rows.session("status") == [("active",)], "an active session")
        await guest.device.say(SPEECH)
        await guest.device.text("not so loud")
        await guest.device.close()
        await self.until(lambda: rows.session("status") == [("disconnected",)], "its end")
        rows.check(self, guest.identity)
        self.assertEqual(
            self.select(
                "SELECT count(*) FROM device_sessions WHERE last_active_at < connected_at"
                " OR connected_at NOT BETWEEN now() - interval '2 minutes' AND now()"
            ),
            [(0,)],
        )
        stray = "INSERT INTO message_logs (session_id, message_type) VALUES ('nobody', 'stt')"
        self.assertRaises(psycopg2.errors.ForeignKeyViolation, self.select, stray)
        await deferToThread(self.check_moving)

    def check_moving(self) -> None:
        device_id = "aa:00:00:00:02:01"
        older = self.raw(self.pair, device_id)
        first = older.hello()
        newer = self.raw(self.pair, device_id, self.second.port)
        second = newer.hello()
        self.assertEqual(older.until_close(), (4001, "replaced"))
        newer.text(type="listen", state="detect", text="hi")
        newer.until_text("tts", state="stop")
        self.assertIn("second", self.holder(device_id))
        self.assertIn("disconnected", self.status_of(first, "disconnected"))
        self.assertIn("active", self.status_of(second, "active"))
        newer.close()
        self.status_of(second, "disconnected")
        self.assertEqual(self.holder(device_id, gone=True), [])
        replaced = Rows(self.select, first).about("connection_events", "event_type")
        self.assertIn(("replaced",), replaced)

    def status_of(self, session_id: str, wanted: str) -> str:
        deadline = time.monotonic() + 10
        while True:
            found = Rows(self.select, session_id).session("status")
            if found == [(wanted,)]:
                return wanted
            if time.monotonic() > deadline:
                self.fail(f"{found}, not {wanted}")
            time.sleep(0.02)

    def holder(self, device_id: str, gone: bool = False) -> list[str]:
        """Return the device's entry in Redis."""
        import redis as client

        deadline = time.monotonic() + 10
        with closing(client.Redis(port=redis().port, decode_responses=True)) as connection:
            while True:
                keys = [key for key in connection.keys("*") if device_id in key]
                if gone != bool(keys) or time.monotonic() > deadline:
                    return [str(value) for key in keys for value in connection.hvals(key)]
                time.sleep(0.02)

    async def test_stores_away_and_back(self) -> None:
        """Neither store delays a device; pending rows are written afterwards."""
        guest = await self.guest(self.pair)
        await deferToThread(postgres().kill)
        await deferToThread(redis().kill)
        try:
            self.assertEqual((await guest.device.text("hi")).text, "All right.")
            newcomer = await self.guest(self.pair)
            self.assertEqual((await newcomer.device.text("hi")).text, "All right.")
            health = await deferToThread(self.pair.im.wait_for, "/health", 200, "degraded")
            for name in ("store", "presence"):
                self.assertNotEqual(health["checks"][name], "ok")
        finally:
            await deferToThread(postgres().restart)
            await deferToThread(redis().restart)
        await deferToThread(self.pair.im.wait_for, "/health", 200, "healthy")
        for each in (guest, newcomer):
            rows = Rows(self.select, each.device.machine.session_id)
            await self.until(lambda: rows.session("status") == [("active",)], "its row")  # noqa: B023
            await self.until(
                lambda: ("stt", "hi") in rows.about("message_logs", "message_type, content"),  # noqa: B023
                "its messages",
            )
