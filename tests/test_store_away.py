"""A PostgreSQL outage under the edge: no row is lost or doubled."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psycopg2
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.guests import AI_SETS, IM_SETS, Guest, ServiceCase
from tests.servers import PostgresServer
from tests.services import Pair, ServiceProcess, get
from xiaozhi.base.values import LogDirection, SessionStatus
from xiaozhi.im.sessionlog.journal import Journal, JournalSettings
from xiaozhi.runtime.listening import free_port
from xiaozhi.storage import Spool, store_from_url
from xiaozhi.wire.messages import Device

ORPHANS = "SELECT count(*) FROM {} WHERE session_id NOT IN (SELECT session_id FROM device_sessions)"


class ServerCase(TestCase):
    """Has a server of its own, because it stops it."""

    timeout = 120

    async def server(self) -> PostgresServer:
        server = PostgresServer()
        await deferToThread(server.start)
        self.addCleanup(server.stop)
        return server

    def assert_no_orphans(self, server: PostgresServer, url: str) -> None:
        for table in ("message_logs", "connection_events"):
            self.assertEqual(server.execute(ORPHANS.format(table), url), [(0,)])


class Writer:
    """Logs 1000 messages per second of starting and ending sessions.

    :ivar noted: the messages of each session, in order.
    """

    def __init__(self, journal: Journal) -> None:
        self.noted: dict[str, list[str]] = {}
        self._journal = journal
        self._number = 0
        self._loop = LoopingCall(self._note)
        self._loop.start(0.02)

    def _note(self) -> None:
        session_id = f"s{self._number // 100}"
        if session_id not in self.noted:
            self.noted[session_id] = []
            self._journal.session_started(session_id, Device(f"d{session_id}", "c", "u"))
        for _ in range(20):
            word = str(self._number)
            self._number += 1
            self.noted[session_id].append(word)
            self._journal.message(session_id, "stt", LogDirection.INBOUND, word)
        if self._number % 100 == 0:
            self._journal.event(session_id, "closed", {"code": 1000})
            self._journal.session_changed(session_id, SessionStatus.DISCONNECTED)

    def stop(self) -> None:
        if self._loop.running:
            self._loop.stop()


class JournalTests(ServerCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.postgres = await self.server()
        self.url = await deferToThread(self.postgres.create_database)
        self.store = store_from_url(self.url, reactor)
        await self.store.start()
        self.addCleanup(self.store.stop)
        self.journal = self.new_journal(Path(self.mktemp()))
        await self.journal.start()

    def new_journal(self, directory: Path) -> Journal:
        spool = Spool(directory, reactor, limit=1 << 28)
        clock: Any = reactor
        return Journal(self.store, clock, JournalSettings(capacity=2000), spool)

    def writer(self) -> Writer:
        writer = Writer(self.journal)
        self.addCleanup(writer.stop)
        return writer

    async def check(self, writer: Writer) -> None:
        """Check that all rows exist once, and those of each session in order."""
        writer.stop()
        until = time.monotonic() + 30
        while self.journal.pending or self.journal.spooled:
            self.assertLess(time.monotonic(), until, "it catches up")
            await pause(0.1)
        self.assertEqual((self.journal.dropped, self.journal.trouble()), (0, ""))
        found: dict[str, list[str]] = {}
        statement = "SELECT session_id, content FROM message_logs ORDER BY created_at"
        for session_id, word in await deferToThread(self.postgres.execute, statement, self.url):
            found.setdefault(str(session_id), []).append(str(word))
        self.assertEqual(found, writer.noted)
        statement = "SELECT count(*) FROM device_sessions WHERE status = 'active'"
        [(active,)] = self.postgres.execute(statement, self.url)
        self.assertLessEqual(int(str(active)), 1, "the last one may not be over")
        self.assert_no_orphans(self.postgres, self.url)
        await self.journal.stop()

    async def test_stopped_for_ten_seconds(self) -> None:
        writer = self.writer()
        await pause(1)
        await deferToThread(self.postgres.kill)
        await pause(10)
        self.assertGreater(self.journal.spooled, 7000)
        self.assertLess(self.journal.pending, 1000)
        await deferToThread(self.postgres.restart)
        await pause(2)
        await self.check(writer)

    async def test_hangs_for_three_seconds(self) -> None:
        writer = self.writer()
        await pause(1)
        lock = psycopg2.connect(self.url)
        self.addCleanup(lock.close)
        lock.cursor().execute("LOCK TABLE message_logs IN ACCESS EXCLUSIVE MODE")
        await pause(3)
        self.assertGreater(self.journal.spooled, 1000)
        lock.close()
        await pause(1)
        await self.check(writer)


class ServiceTests(ServerCase, ServiceCase):
    timeout = 120

    async def test_kill_9_of_the_edge_while_the_database_is_away(self) -> None:
        postgres = await self.server()
        url = await deferToThread(postgres.create_database)
        sets = (*IM_SETS, f"store.url={url}", "store.spool_after=0.2", "store.required=false")
        pair = await deferToThread(lambda: Pair((*sets, "node=n1"), AI_SETS).start())
        self.addCleanup(pair.end)
        before = await self.guest(pair)
        await before.device.text("one")
        await deferToThread(postgres.kill)
        during = await self.guest(pair)
        await before.device.text("two")
        await during.device.text("three")
        await pause(1)
        health = await deferToThread(pair.im.wait_for, "/health", 200, "degraded")
        self.assertGreater(health["store"]["spooled"], 10)
        self.assertEqual(health["store"]["dropped"], {})
        await deferToThread(pair.im.kill)
        # It restarts although the database is down.
        pair.im.start()
        await deferToThread(pair.im.wait_for, "/ready", 200)
        after = await self.guest(pair)
        await after.device.text("four")
        await deferToThread(postgres.restart)
        await deferToThread(pair.im.wait_for, "/health", 200, "healthy")

        def store() -> Any:
            return get(pair.edge_port, "/health")[1]["store"]

        # The store is back before all spooled rows have been written.
        await self.until(lambda: store()["spooled"] == 0, "the spool is empty")
        self.assertEqual(store()["dropped"], {})
        told = {"one", "two", "three", "four"}
        statement = "SELECT content FROM message_logs WHERE message_type = 'stt' ORDER BY content"

        def words() -> list[Any]:
            return [word for (word,) in postgres.execute(statement, url)]

        await self.until(lambda: words() == sorted(told), "every word once")
        self.assert_no_orphans(postgres, url)

        def status(guest: Guest) -> list[Any]:
            return postgres.execute(
                "SELECT status FROM device_sessions"
                f" WHERE device_id = '{guest.identity.device_id}' ORDER BY connected_at",
                url,
            )

        # The killed process's sessions are over; the others continue.
        for guest in (before, during):
            await self.until(lambda g=guest: status(g) == [("disconnected",)], "it is over")  # type: ignore[misc]
        self.assertEqual(status(after), [("active",)])


class HistoryTests(ServerCase, ServiceCase):
    """The AI service's stored dialogues."""

    timeout = 120

    async def test_a_talk_does_not_care(self) -> None:
        postgres = await self.server()
        url = await deferToThread(postgres.create_database)
        sets = ("providers.llm.scripted.recall=what did I say", f"history.url={url}")
        pair = await deferToThread(lambda: Pair(IM_SETS, (*AI_SETS, *sets)).start())
        self.addCleanup(pair.end)
        guest = await self.guest(pair)
        await guest.device.text("one")
        # It hangs: one answer waits a second for the dialogue.
        lock = psycopg2.connect(url)
        self.addCleanup(lock.close)
        lock.cursor().execute("LOCK TABLE dialogue_entries IN ACCESS EXCLUSIVE MODE")
        self.assertEqual((await guest.device.text("what did I say")).text, "one")
        guest.device.close()
        guest = await self.again(pair, guest)
        began = time.monotonic()
        self.assertEqual((await guest.device.text("two")).text, "All right.")
        self.assertLess(time.monotonic() - began, 6)
        lock.close()
        # It is down.
        await deferToThread(postgres.kill)
        self.assertEqual((await guest.device.text("what did I say")).text, "two")
        await deferToThread(pair.ai.kill)
        pair.ai.start()
        await deferToThread(pair.ai.wait_for, "/health", 200)
        await deferToThread(pair.im.wait_for, "/health", 200)
        stranger = await self.guest(pair)
        self.assertEqual((await stranger.device.text("hi")).text, "All right.")
        health = await deferToThread(pair.ai.wait_for, "/health", 200)
        self.assertGreater(health["history"]["pending"], 0)
        self.assertIn("refused", health["history"]["trouble"])
        # And up again.
        await deferToThread(postgres.restart)
        statement = "SELECT content FROM dialogue_entries WHERE role = 'user' ORDER BY number"

        def words() -> list[Any]:
            return [word for (word,) in postgres.execute(statement, url)]

        await self.until(lambda: words()[-1:] == ["hi"], "what was said is written")
        self.assertEqual((words()[0], words().count("hi")), ("one", 1))

    async def test_two_processes_share_a_file(self) -> None:
        """When one is killed, the other one knows its dialogues."""
        pair = Pair(IM_SETS, (*AI_SETS, "providers.llm.scripted.recall=what did I say"))
        self.addCleanup(pair.end)
        grpc_port, http_port = free_port(), free_port()
        both = f"bridge.targets=['127.0.0.1:{pair.grpc_port}', '127.0.0.1:{grpc_port}']"
        pair.im.sets += (both, "bridge.backoff_base=0.05")
        other = ServiceProcess(
            "ai",
            http_port,
            (
                *pair.ai.sets,
                f"http.listen={{host: 127.0.0.1, port: {http_port}}}",
                f"grpc.listen=127.0.0.1:{grpc_port}",
            ),
            pair.directory / "other.log",
        )
        self.addCleanup(other.end)
        # At once, so that either may create the file.
        for service in (other, pair.ai, pair.im):
            service.start()
        for service in (other, pair.ai, pair.im):
            await deferToThread(service.wait_for)
        # Two streams to each: sessions go to the least loaded of those that are up.
        until = time.monotonic() + 15
        while (await deferToThread(pair.im.wait_for))["bridge"]["streams"] < 4:
            self.assertLess(time.monotonic(), until, "both processes are reached")
            await pause(0.05)
        guests = [await self.guest(pair) for _ in range(6)]
        said = [guest.device.text(f"I am {number}") for number, guest in enumerate(guests)]
        await gatherResults(said)
        for service in (other, pair.ai):
            health = await self.written(service)
            self.assertGreater(health["sessions"], 0, "both have some")
            self.assertEqual(health["history"], {"pending": 0, "dropped": 0, "trouble": ""})
        await deferToThread(other.kill)
        answers = await gatherResults([guest.device.text("what did I say") for guest in guests])
        self.assertEqual([answer.text for answer in answers], [f"I am {n}" for n in range(6)])

    async def written(self, service: ServiceProcess) -> Any:
        """Return the health of a service when nothing waits to be written."""
        until = time.monotonic() + 15
        while (health := await deferToThread(service.wait_for))["history"]["pending"]:
            self.assertLess(time.monotonic(), until, "what was said is written")
            await pause(0.05)
        return health

    async def again(self, pair: Pair, guest: Guest) -> Guest:
        """Connect the same device anew."""
        again = Guest(guest.identity)
        self.addCleanup(again.device.close)
        await again.device.connect(pair.endpoint(guest.identity))
        return again


def pause(seconds: float) -> Deferred[None]:
    return deferLater(reactor, seconds)
