"""PostgreSQL and Redis outages."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import closing
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.faults.account import Kind
from tests.faults.case import MANY, FaultCase
from tests.servers import PostgresServer, RedisServer
from tests.services import ServiceProcess, get
from xiaozhi.device.identity import numbered

AWAY = 10.0


class StoreCase(FaultCase):
    """Helpers for both stores."""

    async def health(self, edge: ServiceProcess, status: str) -> None:
        """Wait until an edge reports this health."""

        def wait() -> str:
            until = time.monotonic() + 60
            while True:
                found = str(get(edge.port, "/health")[1]["status"])
                if found == status or time.monotonic() > until:
                    return found
                time.sleep(0.05)

        self.assertEqual(await deferToThread(wait), status)


class PostgresTests(StoreCase, TestCase):
    """The log, compared with the devices' records."""

    async def test_stopped_and_restarted(self) -> None:
        server = PostgresServer()
        self.addCleanup(deferToThread, server.stop)
        await deferToThread(server.start)
        database = await deferToThread(server.create_database)
        plant = await self.plant(f"store.url={database}")
        crowd = await self.crowd(plant)
        await self.talk_on(crowd)
        await deferToThread(server.kill)
        await deferLater(reactor, AWAY)
        await deferToThread(server.restart)
        await self.talk_on(crowd)
        await self.finish(crowd)
        await crowd.close()
        self.judge()
        self.assertEqual(self.ledger.count(Kind.TOLD), 0)
        await self.health(plant.im, "healthy")
        await self.assert_rows(server, database)
        self.assert_calm(plant)

    async def assert_rows(self, server: PostgresServer, database: str) -> None:
        """One row for each message and no more."""

        def select(statement: str) -> list[tuple[Any, ...]]:
            return server.execute(statement, database)

        def closed() -> int:
            found = select("SELECT count(*) FROM connection_events WHERE event_type = 'closed'")
            return int(found[0][0])

        deadline = time.monotonic() + 60
        while await deferToThread(closed) < MANY:
            self.assertLess(time.monotonic(), deadline, "the log is not written to its end")
            await deferLater(reactor, 0.1)
        rows = await deferToThread(
            select,
            "SELECT device_id, message_type, direction, content"
            " FROM message_logs JOIN device_sessions USING (session_id)",
        )
        found = Counter((kind, way) for _, kind, way, _ in rows)
        count = self.ledger.count
        self.assertEqual(found["vision", "inbound"], count(Kind.NOTED))
        self.assertEqual(found["error", "outbound"], count(Kind.ECHOED))
        self.assertEqual(found["stt", "outbound"], count(Kind.HEARD))
        self.assertEqual(
            found["tts", "outbound"],
            sum(map(count, (Kind.STARTED, Kind.SENTENCE, Kind.LAST, Kind.STOPPED))),
        )
        # Not only the same number, but these.
        notes = Counter(content for _, kind, _, content in rows if kind == "vision")
        expected = (f"dev {who:03} note {n:04}" for who, n in self.ledger.numbers(Kind.NOTED))
        self.assertEqual(notes, Counter(expected))
        self.assertEqual(len({device for device, *_ in rows}), MANY)
        events = await deferToThread(
            select, "SELECT event_type, count(*) FROM connection_events GROUP BY event_type"
        )
        self.assertEqual(dict(events), {"connected": MANY, "hello": MANY, "closed": MANY})
        sessions = "SELECT status, count(*) FROM device_sessions GROUP BY status"
        self.assertEqual(await deferToThread(select, sessions), [("disconnected", MANY)])
        for table in ("message_logs", "connection_events"):
            orphans = await deferToThread(
                select,
                f"SELECT count(*) FROM {table}"
                " WHERE session_id NOT IN (SELECT session_id FROM device_sessions)",
            )
            self.assertEqual(orphans, [(0,)])


class RedisTests(StoreCase, TestCase):
    """Presence."""

    async def test_stopped_and_restarted(self) -> None:
        server = RedisServer()
        self.addCleanup(deferToThread, server.stop)
        await deferToThread(server.start)
        plant = await self.plant(f"presence.url={server.url}")
        crowd = await self.crowd(plant)
        await self.talk_on(crowd)
        self.assertEqual(await deferToThread(self.present, server), MANY)
        await deferToThread(server.kill)
        await self.talk_on(crowd)
        await self.health(plant.im, "degraded")
        await self.talk_on(crowd)
        # Redis returns without its data.
        await deferToThread(server.restart)
        await self.health(plant.im, "healthy")
        await self.talk_on(crowd)
        deadline = time.monotonic() + 60
        while (present := await deferToThread(self.present, server)) != MANY:
            self.assertLess(time.monotonic(), deadline, f"{present} are known again")
            await deferLater(reactor, 0.1)
        await self.finish(crowd)
        self.assertEqual(self.ledger.count(Kind.LOST), 0)
        self.judge()
        self.assertEqual(self.ledger.count(Kind.TOLD), 0)
        self.assert_calm(plant)

    def present(self, server: RedisServer) -> int:
        """Return the number of devices in Redis."""
        import redis as client

        with closing(client.Redis(port=server.port, decode_responses=True)) as connection:
            keys = " ".join(map(str, connection.keys("*")))
        return sum(numbered(number).device_id in keys for number in range(1, MANY + 1))
