"""The device registry in memory and in a file. PostgreSQL is in ``tests/``."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from xiaozhi.base.ownership import UnknownDevice
from xiaozhi.storage import devices_from_url
from xiaozhi.testing.contracts.devices import AT, LIMITS, DeviceRegistryContract, who
from xiaozhi.testing.database import memory_devices


class InlineTests(DeviceRegistryContract, TestCase):
    def setUp(self) -> None:
        self.store = memory_devices(self.mktemp())
        self.successResultOf(self.store.start())
        self.addCleanup(self.store.stop)


class ThreadedTests(DeviceRegistryContract, TestCase):
    """With threads, as in the services."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.store = devices_from_url(f"sqlite:///{self.mktemp()}", reactor)
        await self.store.start()
        self.addCleanup(self.store.stop)


class SharedFileTests(SynchronousTestCase):
    def test_two_processes_with_one_file(self) -> None:
        path = self.mktemp()
        one, two = memory_devices(path), memory_devices(path)
        for each in (one, two):
            self.successResultOf(each.start())
            self.addCleanup(each.stop)

        async def work() -> None:
            held = await one.apply(who(), UnknownDevice.CLAIM, LIMITS, AT)
            self.assertEqual(await two.changes(0, 10), [held])
            gone = await two.revoke("d1", AT)
            self.assertEqual(await one.changes(0, 10), [gone])

        self.successResultOf(Deferred.fromCoroutine(work()))
