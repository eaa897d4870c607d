"""Contract of every pair of bridge ends, with any carrier of their streams, as tests."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from zope.interface import implementer
from zope.interface.verify import verifyObject

from xiaozhi.base.errors import BridgeError
from xiaozhi.bridge.edge.client import BridgeClient
from xiaozhi.bridge.items import AnyDirection, Item
from xiaozhi.bridge.service.server import BridgeServer
from xiaozhi.interfaces import (
    IBridge,
    IEdgeEvents,
    IEdgeLink,
    IServiceEvents,
    IServiceLink,
    ISessionAcceptor,
)
from xiaozhi.wire import messages as m


def came(direction: AnyDirection, item: bytes) -> Item:
    """An item as the other side receives it."""
    return direction.item.FromString(item)


def opening(session_id: str = "s1", device_id: str = "aa:bb:cc:dd:ee:ff") -> m.SessionOpen:
    """Return the opening of a session."""
    return m.SessionOpen(
        session_id=session_id,
        device=m.Device(device_id, "client", "user"),
        hello=m.Hello(features=m.Features(mcp=True)),
        downlink=m.AudioParams(sample_rate=24000),
    )


@implementer(IEdgeEvents, IServiceEvents)
class Heard:
    """Records events and messages of either side in one list."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self.link: Any = None
        self.opening: Any = None
        self.memory: tuple[Any, ...] = ()

    @property
    def messages(self) -> list[Any]:
        return [entry for entry in self.all if not isinstance(entry, tuple)]

    @property
    def events(self) -> list[tuple[str, ...]]:
        return [entry for entry in self.all if isinstance(entry, tuple)]

    def received(self, message: Any) -> None:
        self.all.append(message)

    def pause_sending(self) -> None:
        self.all.append(("pause",))

    def resume_sending(self) -> None:
        self.all.append(("resume",))

    def interrupted(self) -> None:
        self.all.append(("interrupted",))

    def restored(self) -> tuple[Any, ...]:
        self.all.append(("restored",))
        return self.memory

    def draining(self) -> None:
        self.all.append(("draining",))

    def closed(self, code: str, message: str) -> None:
        self.all.append(("closed", code))


class Echo(Heard):
    """Echoes typed text and audio; raises at the text ``fail``."""

    def received(self, message: Any) -> None:
        super().received(message)
        if isinstance(message, m.Chat):
            if message.text == "fail":
                raise ValueError("as asked")
            self.link.send(m.Stt(message.text))
        elif isinstance(message, m.Audio):
            self.link.send(m.Audio(message.payload, message.timestamp, 7))


@implementer(ISessionAcceptor)
class Sessions:
    """Accepts every session as an :class:`Echo`, except ``refused`` and ``broken``."""

    def __init__(self) -> None:
        self.accepted: list[Echo] = []

    def accept(self, opening: m.SessionOpen, link: IServiceLink) -> IServiceEvents:
        if opening.session_id == "refused":
            raise BridgeError("too_many_sessions", "No more.")
        if opening.session_id == "broken":
            raise ValueError("as asked")
        echo = Echo()
        echo.link, echo.opening = link, opening
        self.accepted.append(echo)
        return echo


class BridgeContract:
    """Mix into a trial test case.

    ``setUp`` must make ``client`` and ``server``, both started, the server with
    ``sessions`` as its acceptor.
    """

    client: BridgeClient
    server: BridgeServer
    sessions: Sessions

    # --- implemented by the test case

    def story(self, tell: Coroutine[Any, Any, None]) -> Any:
        """Run a coroutine to its end. :return: a Deferred for trial to wait for, or None."""
        raise NotImplementedError

    async def until(self, true: Callable[[], object]) -> None:
        """Let time pass until a condition holds."""
        raise NotImplementedError

    async def let_pass(self, seconds: float) -> None:
        """Let time pass."""
        raise NotImplementedError

    async def cut(self) -> None:
        """Break every stream; both ends stay."""
        raise NotImplementedError

    async def lose_server(self) -> None:
        """Crash the AI service, as far as the transport allows."""
        raise NotImplementedError

    async def regain_server(self) -> None:
        """Restart the AI service at the same address, with ``sessions``."""
        raise NotImplementedError

    def logged_errors(self, kind: type[Exception]) -> int:
        """Flush logged errors of a type. :return: their number."""
        return len(self.flushLoggedErrors(kind))  # type: ignore[attr-defined]

    # --- helpers

    async def connected(self) -> None:
        await self.until(lambda: self.client.status().state == "connected")

    async def opened(self, session_id: str = "s1") -> tuple[Any, Heard, Echo]:
        """Open a session. :return: link and events at the edge, and its echo."""
        heard = Heard()
        before = len(self.sessions.accepted)
        link = self.client.open(opening(session_id), heard)
        await self.until(lambda: len(self.sessions.accepted) > before)
        return link, heard, self.sessions.accepted[-1]

    # --- the contract

    def test_interfaces(self) -> Any:
        async def tell() -> None:
            link, _, echo = await self.opened()
            verifyObject(IBridge, self.client)
            verifyObject(IEdgeLink, link)
            verifyObject(IServiceLink, echo.link)

        return self.story(tell())

    def test_opening_arrives_whole(self) -> Any:
        async def tell() -> None:
            _, _, echo = await self.opened()
            assert echo.opening == opening(), echo.opening

        return self.story(tell())

    def test_echo_in_order(self) -> Any:
        async def tell() -> None:
            link, heard, echo = await self.opened()
            sent: list[Any] = []
            for number in range(300):
                sent.append(m.Audio(b"%d" % number, number))
                if number % 7 == 0:
                    sent.append(m.Chat(str(number)))
            for message in sent:
                link.send(message)
            await self.until(lambda: len(heard.messages) >= len(sent))
            assert echo.messages == sent
            assert heard.messages == [
                m.Stt(message.text)
                if isinstance(message, m.Chat)
                else m.Audio(message.payload, message.timestamp, 7)
                for message in sent
            ]

        return self.story(tell())

    def test_sessions_keep_apart(self) -> Any:
        async def tell() -> None:
            links = [await self.opened(f"s{number}") for number in range(10)]
            for number, (link, _, _) in enumerate(links):
                link.send(m.Chat(str(number)))
            await self.until(lambda: all(heard.messages for _, heard, _ in links))
            assert [heard.all for _, heard, _ in links] == [[m.Stt(str(n))] for n in range(10)]

        return self.story(tell())

    def test_edge_closes(self) -> Any:
        async def tell() -> None:
            link, heard, echo = await self.opened()
            link.send(m.Goodbye("bye"))
            link.close("device_gone", "")
            link.close("device_gone", "again")
            link.send(m.Chat("too late"))
            await self.until(lambda: echo.events)
            echo.link.send(m.Stt("too late"))
            await self.let_pass(0.05)
            assert echo.all == [m.Goodbye("bye"), ("closed", "device_gone")], echo.all
            assert heard.all == []
            assert self.client.status().sessions == self.server.status().sessions == 0

        return self.story(tell())

    def test_ai_closes(self) -> Any:
        async def tell() -> None:
            link, heard, echo = await self.opened()
            echo.link.send(m.Goodbye("bye"))
            echo.link.close("farewell", "")
            await self.until(lambda: heard.events)
            link.send(m.Chat("too late"))
            await self.let_pass(0.05)
            assert heard.all == [m.Goodbye("bye"), ("closed", "farewell")], heard.all
            assert echo.all == []
            assert self.client.status().sessions == self.server.status().sessions == 0

        return self.story(tell())

    def test_credit_both_ways(self) -> Any:
        """A paused side receives messages up to its credit, and the rest after resuming."""

        async def tell() -> None:
            link, heard, echo = await self.opened()
            for receiver, told, sender in ((heard, echo, echo.link), (echo, heard, link)):
                (link if receiver is heard else echo.link).pause()
                before = len(told.events)
                sent = 0
                while len(told.events) == before:
                    sender.send(m.Audio(b"a", sent))
                    sent += 1
                    assert sent < 1000, "it was never asked to hold back"
                await self.until(lambda: receiver.messages[-1:] == [m.Audio(b"a", sent - 1)])  # noqa: B023
                await self.let_pass(0.05)
                assert told.events[before:] == [("pause",)]
                (link if receiver is heard else echo.link).resume()
                await self.until(lambda: told.events[-1] == ("resume",))  # noqa: B023
                receiver.all.clear()

        return self.story(tell())

    def test_refused(self) -> Any:
        async def tell() -> None:
            heard = Heard()
            link = self.client.open(opening("refused"), heard)
            for _ in range(3):
                link.send(m.Chat("anyone?"))
            await self.until(lambda: heard.events)
            await self.let_pass(0.05)
            assert heard.all == [("closed", "too_many_sessions")]

        return self.story(tell())

    def test_an_error_in_accept_ends_only_that_session(self) -> Any:
        async def tell() -> None:
            link, well, _ = await self.opened("well")
            heard = Heard()
            self.client.open(opening("broken"), heard)
            await self.until(lambda: heard.events)
            assert heard.all == [("closed", "internal_error")]
            link.send(m.Chat("well?"))
            await self.until(lambda: well.messages)
            assert self.logged_errors(ValueError) == 1

        return self.story(tell())

    def test_an_error_in_a_session_ends_only_that_session(self) -> Any:
        async def tell() -> None:
            well, heard_well, _ = await self.opened("well")
            link, heard, echo = await self.opened("ill")
            link.send(m.Chat("fail"))
            link.send(m.Chat("late"))
            well.send(m.Chat("well?"))
            await self.until(lambda: heard.events and heard_well.messages)
            await self.let_pass(0.05)
            assert heard.all == [("closed", "internal_error")], heard.all
            assert echo.all == [m.Chat("fail"), ("closed", "internal_error")], echo.all
            assert self.logged_errors(ValueError) == 1

        return self.story(tell())

    def test_broken_streams_are_not_noticed(self) -> Any:
        async def tell() -> None:
            link, heard, echo = await self.opened()
            link.send(m.Chat("1"))
            link.send(m.Chat("2"))
            await self.cut()
            link.send(m.Chat("3"))
            echo.link.send(m.Stt("by the way"))
            await self.until(lambda: len(heard.messages) == 4)
            await self.let_pass(0.05)
            assert echo.messages == [m.Chat("1"), m.Chat("2"), m.Chat("3")], echo.all
            assert {*heard.messages} == {m.Stt(t) for t in ("1", "2", "3", "by the way")}
            assert [e for e in heard.messages if e.text.isdigit()] == [m.Stt(t) for t in "123"]
            assert heard.events == []
            assert self.sessions.accepted == [echo]

        return self.story(tell())

    def test_ai_goes_and_comes_back(self) -> Any:
        async def tell() -> None:
            link, heard, _ = await self.opened()
            heard.memory = (m.Listen(m.ListenState.START),)
            await self.lose_server()
            await self.until(lambda: self.client.status().state != "connected")
            link.send(m.Chat("1"))
            link.send(m.Chat("2"))
            fresh = Heard()
            fresh_link = self.client.open(opening("fresh"), fresh)
            fresh_link.send(m.Chat("3"))
            await self.let_pass(0.05)
            assert fresh.all == []
            await self.regain_server()
            await self.until(lambda: len(heard.messages) == 2 and fresh.messages)
            assert heard.all == [("interrupted",), ("restored",), m.Stt("1"), m.Stt("2")], heard.all
            assert fresh.all == [m.Stt("3")]
            resumed = {e.opening.session_id: e.opening.resumed for e in self.sessions.accepted[-2:]}
            assert resumed == {"s1": True, "fresh": False}, resumed
            told = {e.opening.session_id: e.messages for e in self.sessions.accepted[-2:]}
            assert told["s1"] == [*heard.memory, m.Chat("1"), m.Chat("2")], told

        return self.story(tell())

    def test_draining(self) -> Any:
        """An idle session moves away; without another service it stays."""

        async def tell() -> None:
            link, heard, echo = await self.opened()
            drained = self.server.drain(10)
            assert echo.events == [("draining",)]
            await self.let_pass(0.05)
            link.send(m.Chat("in the middle"))
            await self.until(lambda: heard.messages)
            assert not drained.called
            echo.link.close("moving", "")
            await self.until(lambda: drained.called)
            link.send(m.Chat("patience"))
            await self.let_pass(0.05)
            there = [m.Stt("in the middle"), ("interrupted",)]
            assert heard.all == there, heard.all
            await self.lose_server()
            await self.regain_server()
            await self.until(lambda: len(heard.messages) == 2)
            assert heard.all == [*there, ("restored",), m.Stt("patience")], heard.all

        return self.story(tell())

    def test_messages_before_stopping_are_delivered(self) -> Any:
        async def tell() -> None:
            link, _, echo = await self.opened()
            link.send(m.Goodbye("bye"))
            link.close("device_gone", "")
            await self.client.stop()
            await self.until(lambda: echo.events)
            assert echo.all == [m.Goodbye("bye"), ("closed", "device_gone")], echo.all

        return self.story(tell())

    def test_status(self) -> Any:
        async def tell() -> None:
            await self.opened()
            await self.until(lambda: self.target_detail()["rtt_ms"] is not None)
            status, detail = self.client.status(), self.target_detail()
            assert status.state == detail["state"] == "connected"
            assert status.sessions == detail["sessions"] == 1
            assert detail["node"] == "ai"
            assert detail["reconnects"] == 0
            there = self.server.status()
            assert there.sessions == 1
            assert set(there.detail["edges"]) == {"im"}

        return self.story(tell())

    def target_detail(self) -> Any:
        """Return the client's report of its one target."""
        (detail,) = self.client.status().detail["targets"].values()
        return detail
