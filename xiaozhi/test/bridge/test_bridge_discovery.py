"""Periodic resolution of the AI service's names."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Sequence
from typing import Any

from msgspec import ValidationError, convert
from twisted.internet._resolver import GAIResolver
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.bridge.edge.client import BridgeClient
from xiaozhi.bridge.edge.discovery import Discovery, reactor_resolve
from xiaozhi.bridge.memory import MemoryNetwork
from xiaozhi.bridge.service.server import BridgeServer
from xiaozhi.bridge.settings import ClientSettings, ServerSettings
from xiaozhi.testing.contracts.bridge import Heard, Sessions, opening


class DiscoveryCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.told: list[tuple[str, ...]] = []
        self.asked: list[tuple[str, Deferred[Sequence[str]]]] = []

    def discovery(self, *entries: str) -> Discovery:
        discovery = Discovery(entries, self.resolve, self.clock, interval=10, timeout=5)
        discovery.start(self.retarget)
        return discovery

    def retarget(self, addresses: Collection[str]) -> None:
        self.told.append(tuple(addresses))

    def resolve(self, host: str) -> Deferred[Sequence[str]]:
        answer = Deferred[Sequence[str]]()
        self.asked.append((host, answer))
        return answer

    def answer(self, *hosts: str) -> None:
        """Answer the oldest request."""
        self.asked.pop(0)[1].callback(hosts)

    def break_off(self, message: str = "no server") -> None:
        self.asked.pop(0)[1].errback(OSError(message))

    def logged(self, act: Callable[[], object]) -> list[str]:
        with capturedLogs() as events:
            act()
        return [formatEvent(event) for event in events]


class GivenTests(DiscoveryCase):
    def test_reported_once(self) -> None:
        self.discovery("ai:1", "[::1]:2")
        self.clock.advance(100)
        self.assertEqual(self.told, [("ai:1", "[::1]:2")])
        self.assertEqual(self.asked, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_together_with_names(self) -> None:
        self.discovery("dns:ai:1", "10.0.0.9:1", "10.0.0.9:1")
        self.assertEqual(self.told, [("10.0.0.9:1",)])
        self.answer("10.0.0.1", "10.0.0.9")
        self.assertEqual(self.told[1:], [("10.0.0.9:1", "10.0.0.1:1")])


class NameTests(DiscoveryCase):
    def test_all_addresses(self) -> None:
        discovery = self.discovery("dns:ai.internal:50051")
        self.assertEqual(self.told, [])
        self.assertEqual([host for host, _ in self.asked], ["ai.internal"])
        self.answer("10.0.0.2", "10.0.0.1", "fd00::1", "10.0.0.1")
        self.assertEqual(self.told, [("10.0.0.1:50051", "10.0.0.2:50051", "[fd00::1]:50051")])
        self.assertEqual(discovery.server_name("[fd00::1]:50051"), "ai.internal")
        self.assertEqual(discovery.server_name("elsewhere:1"), "")

    def test_periodically(self) -> None:
        self.discovery("dns:ai:1")
        for answer in (["10.0.0.1"], ["10.0.0.2", "10.0.0.1"], ["10.0.0.1", "10.0.0.2"]):
            self.assertEqual(len(self.asked), 1)
            self.answer(*answer)
            self.clock.advance(9.9)
            self.assertEqual(self.asked, [])
            self.clock.advance(0.1)
        self.answer("10.0.0.2")
        self.assertEqual(
            self.told, [("10.0.0.1:1",), ("10.0.0.1:1", "10.0.0.2:1"), ("10.0.0.2:1",)]
        )

    def test_changes_are_logged(self) -> None:
        self.discovery("dns:ai:1")
        self.assertEqual(self.logged(lambda: self.answer("10.0.0.1")), ["AI processes: 10.0.0.1:1"])
        self.clock.advance(10)
        self.assertEqual(
            self.logged(lambda: self.answer("10.0.0.2")),
            ["AI processes: 10.0.0.2:1 (new: 10.0.0.2:1; gone: 10.0.0.1:1)"],
        )
        self.clock.advance(10)
        self.assertEqual(self.logged(lambda: self.answer("10.0.0.2")), [])

    def test_a_removed_address_keeps_its_name(self) -> None:
        """It may be dialled until its sessions have moved."""
        discovery = self.discovery("dns:ai:1")
        self.answer("10.0.0.1")
        self.clock.advance(10)
        self.answer("10.0.0.2")
        self.assertEqual(discovery.server_name("10.0.0.1:1"), "ai")

    def test_names_of_removed_addresses_are_bounded(self) -> None:
        discovery = self.discovery("dns:ai:1")
        for number in range(5000):
            self.answer(f"10.0.{number // 256}.{number % 256}")
            self.clock.advance(10)
        self.assertEqual(discovery.server_name("10.0.0.1:1"), "")
        self.assertEqual(discovery.server_name("10.0.19.135:1"), "ai")

    def test_several(self) -> None:
        """A name that answers is not delayed by one that does not."""
        discovery = self.discovery("dns:a:1", "dns:[b]:2")
        self.assertEqual([host for host, _ in self.asked], ["a", "b"])
        slow = self.asked.pop(0)[1]
        self.answer("10.0.0.2")
        self.assertEqual(self.told, [("10.0.0.2:2",)])
        slow.callback(["10.0.0.1"])
        self.assertEqual(self.told[1:], [("10.0.0.1:1", "10.0.0.2:2")])
        self.assertEqual(discovery.server_name("10.0.0.1:1"), "a")


class FailureTests(DiscoveryCase):
    def test_a_failed_look_up_keeps_the_addresses(self) -> None:
        self.discovery("dns:ai:1")
        self.answer("10.0.0.1")
        for fail in (self.break_off, self.answer):
            self.clock.advance(10)
            fail()
        self.assertEqual(self.told, [("10.0.0.1:1",)])
        self.clock.advance(10)
        self.answer("10.0.0.2")
        self.assertEqual(self.told[1:], [("10.0.0.2:1",)])

    def test_one_line(self) -> None:
        self.discovery("dns:ai:1")

        def burst() -> None:
            self.break_off("no server")
            for _ in range(5):
                self.clock.advance(10)
                self.answer()

        self.assertEqual(
            self.logged(burst),
            ["cannot find ai of bridge.targets: no server; continuing with no address"],
        )
        self.clock.advance(10)
        self.assertEqual(
            self.logged(lambda: self.answer("10.0.0.1"))[0], "found ai again: 10.0.0.1:1"
        )
        self.clock.advance(10)
        self.assertEqual(
            self.logged(self.answer),
            ["cannot find ai of bridge.targets: it has no address; continuing with 10.0.0.1:1"],
        )

    def test_a_look_up_that_hangs(self) -> None:
        """It counts as failed, and no second one runs beside it."""
        self.discovery("dns:ai:1")
        lines = self.logged(lambda: self.clock.pump([5, 10, 10, 10]))
        self.assertEqual(
            lines,
            ["cannot find ai of bridge.targets: no answer within 5 s; continuing with no address"],
        )
        self.assertEqual(len(self.asked), 1)
        self.answer("10.0.0.1")  # late is better than never
        self.assertEqual(self.told, [("10.0.0.1:1",)])
        self.clock.advance(10)
        self.assertEqual(len(self.asked), 1)

    def test_stop(self) -> None:
        discovery = self.discovery("dns:a:1", "dns:b:1")
        self.answer("10.0.0.1")
        discovery.stop()
        discovery.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.answer("10.0.0.2")
        self.assertEqual(self.told, [("10.0.0.1:1",)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

        discovery = self.discovery("dns:a:1")
        self.answer("10.0.0.1")
        discovery.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class BridgeTests(DiscoveryCase):
    """Together with the bridge, on virtual time."""

    def setUp(self) -> None:
        super().setUp()
        self.network = MemoryNetwork(self.clock)
        settings = ClientSettings(targets=("dns:ai:1",))
        self.client = BridgeClient(self.network, settings, self.clock, lambda: 0.5, "im", "boot")
        self.successResultOf(self.client.start())
        self.found = Discovery(settings.targets, self.resolve, self.clock, 10, 5)
        self.found.start(self.client.retarget)

    def listen(self, address: str) -> BridgeServer:
        server = BridgeServer(
            self.network.port(address), Sessions(), ServerSettings(), self.clock, address, address
        )
        self.successResultOf(server.start())
        return server

    def targets(self) -> dict[str, int]:
        targets = self.client.status().detail["targets"]
        return {address: detail["sessions"] for address, detail in targets.items()}

    def test_sessions_follow(self) -> None:
        """From before the first address to the last session at a removed one."""
        old, new = (self.listen(f"10.0.0.{number}:1") for number in (1, 2))
        link = self.client.open(opening("s1"), Heard())
        self.clock.advance(1)
        self.assertEqual(self.targets(), {})
        self.answer("10.0.0.1")
        self.clock.advance(1)
        self.assertEqual(self.targets(), {"10.0.0.1:1": 1})
        self.clock.pump([1] * 9)
        self.answer("10.0.0.2")
        self.clock.advance(1)
        self.client.open(opening("s2"), Heard())
        self.clock.advance(1)
        self.assertEqual(self.targets(), {"10.0.0.1:1": 1, "10.0.0.2:1": 1})
        self.assertEqual((old.status().sessions, new.status().sessions), (1, 1))
        link.close("device_gone", "")
        self.clock.pump([1] * 2)
        self.assertEqual(self.targets(), {"10.0.0.2:1": 1})
        self.assertEqual((old.status().sessions, new.status().sessions), (0, 1))
        self.found.stop()
        self.successResultOf(self.client.stop())


class _Here:
    """A thread pool and reactor that run calls at once."""

    def callInThread(self, call: Callable[..., object], *arguments: object) -> None:
        call(*arguments)

    def callFromThread(self, call: Callable[..., object], *arguments: object) -> None:
        call(*arguments)

    def callInThreadWithCallback(self, told: Any, call: Any, *arguments: object) -> None:
        told(True, call(*arguments))

    def getThreadPool(self) -> _Here:
        return self


class ReactorTests(SynchronousTestCase):
    """With Twisted's own resolver, which runs in a thread."""

    def look_up(self, *found: str) -> Sequence[str]:
        here = _Here()

        def getaddrinfo(host: str, *arguments: object) -> list[Any]:
            self.assertEqual(host, "ai")
            if not found:
                raise socket.gaierror("unknown")
            return [
                (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (each, 0, 0, 0))
                if ":" in each
                else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0))
                for each in found
            ]

        here.nameResolver = GAIResolver(here, lambda: here, getaddrinfo)  # type: ignore[attr-defined, arg-type, return-value]
        return self.successResultOf(reactor_resolve(here)("ai"))  # type: ignore[arg-type]

    def test_found(self) -> None:
        self.assertEqual(self.look_up("10.0.0.1", "10.0.0.2"), ["10.0.0.1", "10.0.0.2"])
        self.assertEqual(self.look_up("fd00::1", "fd00::2"), ["fd00::1", "fd00::2"])

    def test_one_process_with_two_kinds_of_address(self) -> None:
        self.assertEqual(self.look_up("fd00::1", "10.0.0.1"), ["10.0.0.1"])

    def test_not_found(self) -> None:
        self.assertEqual(self.look_up(), [])


class SettingsTests(SynchronousTestCase):
    def test_targets(self) -> None:
        for target in ("ai:1", "10.0.0.1:1", "[::1]:1", "dns:ai.internal:1", "dns:[::1]:1"):
            self.assertEqual(convert({"targets": [target]}, ClientSettings).targets, (target,))
        for target in ("ai", "::1:1", "[::1]", "http://ai:1", "dns:ai", "dns::1", "a b:1"):
            self.assertRaises(ValidationError, convert, {"targets": [target]}, ClientSettings)
