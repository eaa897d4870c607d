"""Contract of every :class:`~xiaozhi.interfaces.ISessionStore`, as tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from zope.interface.verify import verifyObject

from xiaozhi.base.errors import StoreError
from xiaozhi.base.values import (
    EventLogged,
    LogDirection,
    LogRecord,
    MessageLogged,
    SessionChanged,
    SessionRow,
    SessionStarted,
    SessionStatus,
)
from xiaozhi.interfaces import ISessionStore

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase
else:
    TestCase = object

AT = datetime(2026, 11, 22, 10, 0, 0, 123456, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def started(session_id: str = "s1", device_id: str = "d1", seconds: float = 0) -> SessionStarted:
    return SessionStarted(
        session_id, device_id, "c1", "u1", at(seconds), {"版本": 3, "list": [1.5]}
    )


def message(number: int, session_id: str = "s1", content: str | None = "你好") -> MessageLogged:
    return MessageLogged(
        UUID(int=1000 - number), session_id, "stt", LogDirection.INBOUND, content, at(number)
    )


def event(number: int, session_id: str = "s1") -> EventLogged:
    return EventLogged(UUID(int=2000 - number), session_id, "connected", at(number), {"n": number})


class StoreContract(TestCase):
    """Mix into a ``twisted.trial.unittest.TestCase`` that sets ``store`` in ``setUp``
    to a started, empty store."""

    store: ISessionStore

    def test_provides_the_interface(self) -> None:
        verifyObject(ISessionStore, self.store)

    async def test_a_session_reads_back_as_written(self) -> None:
        await self.store.append([started()])
        found = await self.store.session("s1")
        expected = SessionRow(
            "s1", "d1", "c1", "u1", AT, AT, SessionStatus.ACTIVE, {"版本": 3, "list": [1.5]}
        )
        self.assertEqual(found, expected)

    async def test_an_empty_client_id_stays_empty(self) -> None:
        await self.store.append([replace(started(), client_id="")])
        found = await self.store.session("s1")
        assert found is not None
        self.assertEqual(found.client_id, "")

    async def test_an_unknown_session_is_none(self) -> None:
        self.assertIsNone(await self.store.session("nobody"))
        self.assertEqual(await self.store.messages("nobody", 10), [])
        self.assertEqual(await self.store.events("nobody", 10), [])
        self.assertEqual(await self.store.sessions_of("nobody", 10), [])

    async def test_times_come_back_in_utc(self) -> None:
        east = timezone(timedelta(hours=8))
        await self.store.append([replace(started(), at=AT.astimezone(east))])
        found = await self.store.session("s1")
        assert found is not None
        self.assertEqual((found.connected_at, found.connected_at.tzinfo), (AT, UTC))

    async def test_changes_move_status_and_last_activity(self) -> None:
        await self.store.append(
            [
                started(),
                SessionChanged("s1", SessionStatus.INACTIVE, at(5)),
                SessionChanged("s1", SessionStatus.DISCONNECTED, at(9)),
            ]
        )
        found = await self.store.session("s1")
        assert found is not None
        self.assertEqual(found.status, SessionStatus.DISCONNECTED)
        self.assertEqual((found.connected_at, found.last_active_at), (AT, at(9)))

    async def test_an_older_change_that_comes_late_changes_nothing(self) -> None:
        active = SessionChanged("s1", SessionStatus.ACTIVE, at(5))
        await self.store.append([started(), active])
        await self.store.append([SessionChanged("s1", SessionStatus.DISCONNECTED, at(9))])
        await self.store.append([active])
        found = await self.store.session("s1")
        assert found is not None
        self.assertEqual((found.status, found.last_active_at), (SessionStatus.DISCONNECTED, at(9)))

    async def test_an_end_is_final_with_any_clock(self) -> None:
        await self.store.append([started(seconds=60)])
        await self.store.append([SessionChanged("s1", SessionStatus.DISCONNECTED, at(5))])
        found = await self.store.session("s1")
        assert found is not None
        self.assertEqual(found.status, SessionStatus.DISCONNECTED)

    async def test_purging_takes_the_oldest_some_at_a_time_and_sessions_last(self) -> None:
        over = SessionChanged("s1", SessionStatus.DISCONNECTED, at(5))
        await self.store.append([started(), *map(message, range(6)), *map(event, range(3)), over])
        self.assertEqual(await self.store.purge(at(5), 4), 4)
        self.assertEqual(await self.store.messages("s1", 9), [message(4), message(5)])
        self.assertEqual(await self.store.purge(at(5), 4), 4)
        self.assertEqual(await self.store.messages("s1", 9), [message(5)])
        self.assertEqual(await self.store.purge(at(5), 4), 0)
        self.assertIsNotNone(await self.store.session("s1"), "a message refers to it")
        self.assertEqual(await self.store.purge(at(6), 4), 2)
        self.assertIsNone(await self.store.session("s1"))

    async def test_purging_keeps_active_sessions(self) -> None:
        await self.store.append([started("s1"), started("s2"), message(1, "s2")])
        await self.store.append([SessionChanged("s2", SessionStatus.DISCONNECTED, at(2))])
        self.assertEqual(await self.store.purge(at(99), 9), 2)
        self.assertIsNotNone(await self.store.session("s1"))
        self.assertIsNone(await self.store.session("s2"))

    async def test_sessions_left_behind_are_closed(self) -> None:
        mine = replace(started("mine", seconds=10), node="n1")
        await self.store.append(
            [
                mine,
                replace(mine, session_id="again", at=at(30)),
                replace(mine, session_id="theirs", node="n2"),
                replace(mine, session_id="silent", node="n2", at=at(1)),
                replace(mine, session_id="over", at=at(1)),
                SessionChanged("over", SessionStatus.INACTIVE, at(2)),
            ]
        )
        self.assertEqual(await self.store.close_left("n1", at(20), at(5), 1), 1)
        self.assertEqual(await self.store.close_left("n1", at(20), at(5), 9), 1)
        self.assertEqual(await self.store.close_left("n1", at(20), at(5), 9), 0)
        found = {row.session_id: row for row in await self.store.sessions_of("d1", 9)}
        closed = {key for key, row in found.items() if row.status is SessionStatus.DISCONNECTED}
        self.assertEqual(closed, {"mine", "silent"})
        self.assertEqual((found["mine"].last_active_at, found["mine"].node), (at(10), "n1"))

    async def test_one_that_was_thought_dead_comes_back(self) -> None:
        """The node was only cut off from the store."""
        await self.store.append([started()])
        await self.store.close_left("n", AT, at(5), 9)
        await self.store.append([SessionChanged("s1", SessionStatus.ACTIVE, at(9))])
        found = await self.store.session("s1")
        assert found is not None
        self.assertEqual(found.status, SessionStatus.ACTIVE)

    async def test_a_change_of_an_unknown_session_changes_nothing(self) -> None:
        await self.store.append([SessionChanged("ghost", SessionStatus.INACTIVE, AT)])
        self.assertIsNone(await self.store.session("ghost"))

    async def test_messages_and_events_in_the_order_they_were_logged(self) -> None:
        await self.store.append([started(), message(1), event(1), message(2), event(2)])
        await self.store.append([event(3), message(3)])
        self.assertEqual(await self.store.messages("s1", 10), [message(1), message(2), message(3)])
        self.assertEqual(await self.store.events("s1", 10), [event(1), event(2), event(3)])

    async def test_a_limit_keeps_the_latest(self) -> None:
        await self.store.append([started(), *map(message, range(5)), *map(event, range(5))])
        self.assertEqual(await self.store.messages("s1", 2), [message(3), message(4)])
        self.assertEqual(await self.store.events("s1", 2), [event(3), event(4)])

    async def test_sessions_of_a_device_newest_first(self) -> None:
        await self.store.append(
            [started("a", seconds=1), started("b", seconds=3), started("c", seconds=2)]
        )
        await self.store.append([started("x", device_id="d2", seconds=4)])
        found = await self.store.sessions_of("d1", 2)
        self.assertEqual([row.session_id for row in found], ["b", "c"])

    async def test_a_batch_written_again_is_the_same_batch(self) -> None:
        batch: list[LogRecord] = [
            started(),
            message(1),
            event(1),
            SessionChanged("s1", SessionStatus.DISCONNECTED, at(7)),
        ]
        await self.store.append(batch)
        before = await self.store.session("s1")
        await self.store.append(batch)
        self.assertEqual(await self.store.session("s1"), before)
        self.assertEqual(await self.store.messages("s1", 10), [message(1)])
        self.assertEqual(await self.store.events("s1", 10), [event(1)])

    async def test_all_or_nothing(self) -> None:
        error = await self._refused([started(), message(1), message(2, session_id="ghost")])
        self.assertEqual(error.code, "store_rejected")
        self.assertIsNone(await self.store.session("s1"))
        await self.store.append([started()])  # and the store continues

    async def test_an_identifier_that_does_not_fit_is_refused(self) -> None:
        error = await self._refused([started("s" * 256)])
        self.assertEqual(error.code, "store_rejected")
        await self.store.append([started("s" * 255)])

    async def test_a_type_that_does_not_fit_is_cut(self) -> None:
        await self.store.append(
            [
                started(),
                replace(message(1), message_type="m" * 60),
                replace(event(1), event_type="e" * 60),
            ]
        )
        [found] = await self.store.messages("s1", 1)
        [happened] = await self.store.events("s1", 1)
        self.assertEqual((found.message_type, happened.event_type), ("m" * 50, "e" * 50))

    async def test_text_no_database_takes_is_mended(self) -> None:
        await self.store.append(
            [
                replace(started(), metadata={"k\0": ["\ud800"]}),
                message(1, content="a\0b\udfff"),
                replace(event(1), data={"x": {"y": "\0"}}),
            ]
        )
        [found] = await self.store.messages("s1", 1)
        [happened] = await self.store.events("s1", 1)
        row = await self.store.session("s1")
        assert row is not None
        self.assertEqual(found.content, "a\ufffdb\ufffd")
        self.assertEqual(happened.data, {"x": {"y": "\ufffd"}})
        self.assertEqual(row.metadata, {"k\ufffd": ["\ufffd"]})

    async def test_a_record_that_is_no_json_is_refused(self) -> None:
        for value in (object(), float("nan")):
            error = await self._refused([replace(started(), metadata={"x": value})])
            self.assertEqual(error.code, "store_rejected")

    async def test_a_time_without_zone_is_refused(self) -> None:
        error = await self._refused([replace(started(), at=AT.replace(tzinfo=None))])
        self.assertEqual(error.code, "store_rejected")

    async def test_no_content_is_none(self) -> None:
        await self.store.append([started(), message(1, content=None)])
        [found] = await self.store.messages("s1", 1)
        self.assertIsNone(found.content)

    async def test_nothing_to_write(self) -> None:
        await self.store.append([])

    async def test_many_records(self) -> None:
        records = [
            MessageLogged(uuid4(), "s1", "stt", LogDirection.OUTBOUND, str(n), at(n / 1000))
            for n in range(1200)
        ]
        await self.store.append([started(), *records])
        self.assertEqual(await self.store.messages("s1", 2000), records)

    async def test_a_stopped_store_says_so(self) -> None:
        await self.store.stop()
        error = await self._refused([started()])
        self.assertEqual(error.code, "store_closed")
        await self.store.stop()

    async def _refused(self, records: Sequence[LogRecord]) -> StoreError:
        try:
            await self.store.append(records)
        except StoreError as error:
            return error
        raise AssertionError("not refused")
