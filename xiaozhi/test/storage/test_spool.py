"""Log records on disk."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import msgspec
from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from xiaozhi.base.errors import StoreError
from xiaozhi.base.values import (
    EventLogged,
    LogDirection,
    LogRecord,
    MessageLogged,
    SessionChanged,
    SessionStarted,
    SessionStatus,
)
from xiaozhi.interfaces import ISpool
from xiaozhi.storage import Spool
from xiaozhi.storage import spool as spool_module
from xiaozhi.storage.forms import to_json
from xiaozhi.testing.database import inline_spool
from xiaozhi.testing.logs import LogLines

AT = datetime(2026, 11, 26, 10, 0, 0, 123456, tzinfo=UTC)


def message(number: int, content: str | None = "你好") -> MessageLogged:
    at = AT + timedelta(seconds=number)
    return MessageLogged(UUID(int=number), "s1", "stt", LogDirection.INBOUND, content, at)


EVERY_KIND: tuple[LogRecord, ...] = (
    SessionStarted("s1", "d1", "c1", "u1", AT, {"版本": [1, 2.5, None]}, "n1"),
    SessionChanged("s1", SessionStatus.DISCONNECTED, AT),
    message(1),
    message(2, None),
    EventLogged(UUID(int=9), "s1", "closed", AT, {"code": 1001}),
)


class SpoolCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.log = LogLines(self)

    def spool(self, limit: int = 1 << 20) -> Spool:
        spool = inline_spool(self.directory, limit)
        self.successResultOf(spool.start())
        self.addCleanup(spool.stop)
        return spool

    def taken(self, spool: Spool, limit: int = 100) -> list[LogRecord | None]:
        return [record for _, record in self.successResultOf(spool.take(limit))]

    def files(self, suffix: str) -> list[str]:
        return sorted(path.name for path in self.directory.glob("*" + suffix))


class KeepingTests(SpoolCase):
    def test_provides_the_interface(self) -> None:
        verifyObject(ISpool, self.spool())

    def test_reads_back_as_written(self) -> None:
        spool = self.spool()
        self.assertEqual(self.successResultOf(spool.put(EVERY_KIND)), 0)
        self.assertEqual(tuple(self.taken(spool)), EVERY_KIND)
        self.assertEqual((spool.count, spool.oldest), (5, AT))

    def test_discarding_keeps_the_rest_in_order(self) -> None:
        spool = self.spool()
        self.successResultOf(spool.put([message(n) for n in range(5)]))
        [(_, first), (number, second)] = self.successResultOf(spool.take(2))
        self.assertEqual((first, second), (message(0), message(1)))
        self.successResultOf(spool.discard(number))
        self.assertEqual(self.taken(spool), [message(n) for n in (2, 3, 4)])
        self.assertEqual((spool.count, spool.oldest), (3, message(2).at))

    def test_it_stays_over_the_end_of_a_process(self) -> None:
        first = self.spool()
        self.successResultOf(first.put(EVERY_KIND))
        self.successResultOf(first.stop())
        second = self.spool()
        self.assertEqual(tuple(self.taken(second)), EVERY_KIND)
        self.assertEqual(second.count, 5)

    def test_free_pages_return_to_the_disk(self) -> None:
        spool = self.spool(limit=1 << 24)
        self.successResultOf(spool.put([message(n, "x" * 1000) for n in range(2000)]))
        self.successResultOf(spool.discard(1 << 60))
        self.successResultOf(spool.stop())
        self.assertEqual(spool.octets, 0)
        self.assertLess(os.path.getsize(self.directory / "spool-1.sqlite3"), 100_000)

    def test_it_is_for_the_owners_eyes(self) -> None:
        self.spool()
        self.assertEqual(os.stat(self.directory / "spool-1.sqlite3").st_mode & 0o777, 0o600)

    def test_unstorable_records_are_left_out(self) -> None:
        spool = self.spool()
        odd = EventLogged(UUID(int=7), "s1", "odd", AT, {"x": object()})
        nan = EventLogged(UUID(int=8), "s1", "odd", AT, {"x": float("nan")})
        self.assertEqual(self.successResultOf(spool.put([odd, message(1, "a\ud800"), nan])), 2)
        self.assertEqual(self.taken(spool), [message(1, "a\ufffd")])


class BoundTests(SpoolCase):
    def test_beyond_its_bound_the_oldest_messages_go(self) -> None:
        spool = self.spool(limit=20_000)
        self.successResultOf(spool.put(EVERY_KIND))
        lost = sum(
            self.successResultOf(spool.put([message(n, "x" * 200) for n in range(k, k + 10)]))
            for k in range(10, 200, 10)
        )
        self.assertLessEqual(spool.octets, 20_000)
        kept = self.taken(spool, 1000)
        self.assertEqual(kept[:2], list(EVERY_KIND[:2]), "sessions' rows stay")
        self.assertEqual(kept[-1], message(199, "x" * 200))
        self.assertEqual(lost + len(kept), 5 + 190)

    def test_no_device_pushes_out_the_others(self) -> None:
        """Neither with long texts, nor many short ones, nor ever new sessions."""
        for words, times in (("x" * 4000, 60), ("x", 900)):
            self.setUp()
            spool = self.spool(limit=60_000)
            good = [replace(message(n, "tea"), device_id=f"d{n}") for n in range(20)]
            self.successResultOf(spool.put(good))
            for number in range(0, times, 20):
                evil = [
                    replace(message(1000 + number + n, words), device_id="evil", session_id=f"e{n}")
                    for n in range(20)
                ]
                self.successResultOf(spool.put(evil))
                self.assertLessEqual(spool.octets, 60_000)
            self.assertEqual(self.taken(spool, 20), good)
            self.assertGreater(spool.count, 25)
            self.successResultOf(spool.stop())

    def test_one_of_an_earlier_version(self) -> None:
        """Its rows have no owner: the process's own file is upgraded, another one taken over."""
        patch = self.patch(spool_module, "MIGRATIONS", spool_module.MIGRATIONS[:1])
        old = [self.spool(), self.spool()]
        for each in old:
            self.successResultOf(each.stop())
        patch.restore()
        text = to_json(msgspec.to_builtins(message(1)))
        for name in self.files(".sqlite3"):
            with closing(sqlite3.connect(self.directory / name)) as database, database:
                database.execute(
                    "INSERT INTO spool (kind, record, octets) VALUES ('message', ?, 300)", (text,)
                )
        spool = self.spool(limit=3000)
        self.assertEqual(self.taken(spool), [message(1), message(1)])
        self.successResultOf(spool.put([message(n, "x" * 200) for n in range(20)]))
        self.assertLessEqual(spool.octets, 3000)

    def test_rows_being_written_stay(self) -> None:
        spool = self.spool(limit=2500)
        self.successResultOf(spool.put([message(n, "x" * 200) for n in range(5)]))
        number = self.successResultOf(spool.take(2))[-1][0]
        self.successResultOf(spool.put([message(n, "x" * 200) for n in range(5, 9)], number))
        self.assertEqual(self.taken(spool, 2), [message(n, "x" * 200) for n in (0, 1)])

    def test_sessions_go_when_there_is_nothing_else(self) -> None:
        spool = self.spool(limit=2000)
        rows = [SessionStarted(f"s{n}", "d" * 100, "c", "u", AT) for n in range(50)]
        self.assertGreater(self.successResultOf(spool.put(rows)), 0)
        self.assertLessEqual(spool.octets, 2000)
        self.assertEqual(self.taken(spool)[-1], rows[-1])


class OwnerTests(SpoolCase):
    """Several processes with one state directory."""

    def test_each_key_is_separate(self) -> None:
        one, two = self.spool(), self.spool()
        self.successResultOf(one.put([message(1)]))
        self.assertEqual(self.taken(two), [])
        self.assertEqual(self.files(".sqlite3"), ["spool-1.sqlite3", "spool-2.sqlite3"])

    def test_the_next_process_takes_over_files_of_dead_ones(self) -> None:
        one, two, three = self.spool(), self.spool(), self.spool()
        for number, spool in enumerate((one, two, three)):
            self.successResultOf(spool.put([message(number)]))
        self.successResultOf(one.stop())
        self.successResultOf(two.stop())
        heir = self.spool()
        self.assertEqual(self.taken(heir), [message(0), message(1)])
        self.assertEqual(self.taken(three), [message(2)], "it lives")
        self.assertEqual(self.files(".sqlite3"), ["spool-1.sqlite3", "spool-3.sqlite3"])
        self.assertEqual(self.log.count("1 records found"), 1)


class BrokenTests(SpoolCase):
    def leave(self, count: int) -> Path:
        spool = self.spool(limit=1 << 24)
        self.successResultOf(spool.put([message(n, "x" * 500) for n in range(count)]))
        self.successResultOf(spool.stop())
        return self.directory / "spool-1.sqlite3"

    def test_a_file_that_is_none_is_put_aside(self) -> None:
        self.leave(1).write_bytes(b"certainly no database" * 1000)
        spool = self.spool()
        self.assertEqual(spool.count, 0)
        self.assertEqual(self.files(".broken"), ["spool-1.sqlite3.broken"])
        self.assertEqual(self.log.count("is damaged: renamed to"), 1)
        self.successResultOf(spool.put([message(1)]))
        self.assertEqual(self.taken(spool), [message(1)])

    def test_pages_that_are_broken_are_found_out_when_read(self) -> None:
        path = self.leave(1000)
        with path.open("r+b") as file:
            # After the first page of each table and index.
            file.seek(80_000)
            file.write(b"\xff" * 200_000)
        spool = self.spool(limit=1 << 24)
        error = self.failureResultOf(spool.take(1000), StoreError).value
        self.assertEqual(error.code, "spool_broken")
        self.assertEqual(self.successResultOf(spool.renew()), 1000)
        self.assertEqual((self.taken(spool), spool.count), ([], 0))

    def test_one_record_that_is_broken_is_one(self) -> None:
        path = self.leave(3)
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("UPDATE spool SET record = 'nonsense' WHERE number = 2")
        spool = self.spool()
        self.assertEqual([record is None for record in self.taken(spool)], [False, True, False])

    def test_a_write_that_was_cut_off_is_no_write(self) -> None:
        """The machine crashed: the end of the newest file is missing."""
        spool = self.spool()
        self.successResultOf(spool.put([message(1)]))
        size = os.path.getsize(self.directory / "spool-1.sqlite3-wal")
        self.successResultOf(spool.put([message(2)]))
        copy = Path(self.mktemp())
        copy.mkdir()
        for name in ("spool-1.sqlite3", "spool-1.sqlite3-wal"):
            (copy / name).write_bytes((self.directory / name).read_bytes())
        os.truncate(copy / "spool-1.sqlite3-wal", size + 2000)
        self.directory = copy
        self.assertEqual(self.taken(self.spool()), [message(1)])

    def test_no_directory_can_be_made(self) -> None:
        self.directory.write_text("a file where a directory should be")
        spool = inline_spool(self.directory, 1000)
        self.failureResultOf(spool.start(), StoreError)
        self.directory.unlink()
        self.successResultOf(spool.start())
        self.successResultOf(spool.put([message(1)]))
        self.successResultOf(spool.stop())


class ThreadedTests(TestCase):
    """With threads, as in production."""

    async def test_puts_and_takes_beside_each_other(self) -> None:
        spool = Spool(Path(self.mktemp()), reactor, limit=1 << 20)
        await spool.start()
        puts = [spool.put([message(n)]) for n in range(50)]
        taken: list[LogRecord | None] = []
        while len(taken) < 50:
            found = await spool.take(7)
            if found:
                taken += [record for _, record in found]
                await spool.discard(found[-1][0])
        for put in puts:
            await put
        self.assertEqual(taken, [message(n) for n in range(50)])
        self.assertEqual((spool.count, spool.octets), (0, 0))
        await spool.stop()
