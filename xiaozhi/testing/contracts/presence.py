"""Contract of every :class:`~xiaozhi.interfaces.IPresence`, as tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from zope.interface.verify import verifyObject

from xiaozhi.base.values import Presence
from xiaozhi.interfaces import IPresence

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase
else:
    TestCase = object


class PresenceContract(TestCase):
    """Mix into a ``twisted.trial.unittest.TestCase`` that sets ``presence`` in ``setUp`` to a
    started, unused one of the node ``node-a``.
    """

    presence: IPresence

    def setUp(self) -> None:
        self.told: list[str] = []

    def by(self, name: str) -> Callable[[], None]:
        """Make a ``replaced`` callback that records its session."""
        return lambda: self.told.append(name)

    def at(self, session_id: str, since: float, device_id: str = "d1") -> Presence:
        return Presence(device_id, session_id, "node-a", since)

    def test_provides_the_interface(self) -> None:
        verifyObject(IPresence, self.presence)

    async def test_no_device(self) -> None:
        self.assertIsNone(await self.presence.lookup("d1"))

    async def test_a_claim_is_found(self) -> None:
        one = self.at("s1", 1795348800.123456)
        self.assertIsNone(await self.presence.claim(one, self.by("s1")))
        self.assertEqual(await self.presence.lookup("d1"), one)
        self.assertIsNone(await self.presence.lookup("d2"))

    async def test_the_newest_wins_and_the_older_is_notified_once(self) -> None:
        one, two, three = self.at("s1", 1), self.at("s2", 2), self.at("s3", 3)
        await self.presence.claim(one, self.by("s1"))
        self.assertEqual(await self.presence.claim(two, self.by("s2")), one)
        self.assertEqual(self.told, ["s1"])
        self.assertEqual(await self.presence.claim(three, self.by("s3")), two)
        self.assertEqual(self.told, ["s1", "s2"])
        self.assertEqual(await self.presence.lookup("d1"), three)

    async def test_in_one_process_order_counts_not_the_clock(self) -> None:
        await self.presence.claim(self.at("s1", 5000), self.by("s1"))
        after_the_clock_was_set_back = self.at("s2", 1000)
        await self.presence.claim(after_the_clock_was_set_back, self.by("s2"))
        self.assertEqual(self.told, ["s1"])
        self.assertEqual(await self.presence.lookup("d1"), after_the_clock_was_set_back)

    async def test_claiming_again_replaces_no_session(self) -> None:
        one = self.at("s1", 1)
        await self.presence.claim(one, self.by("s1"))
        self.assertIsNone(await self.presence.claim(one, self.by("s1")))
        self.assertEqual(self.told, [])

    async def test_devices_do_not_meet(self) -> None:
        await self.presence.claim(self.at("s1", 1), self.by("s1"))
        await self.presence.claim(self.at("s2", 2, "d2"), self.by("s2"))
        self.assertEqual(self.told, [])

    async def test_release(self) -> None:
        await self.presence.claim(self.at("s1", 1), self.by("s1"))
        await self.presence.release("d1", "s1")
        self.assertIsNone(await self.presence.lookup("d1"))
        await self.presence.release("d1", "s1")
        self.assertIsNone(await self.presence.claim(self.at("s2", 2), self.by("s2")))
        self.assertEqual(self.told, [])

    async def test_the_replaced_one_releases_nothing(self) -> None:
        two = self.at("s2", 2)
        await self.presence.claim(self.at("s1", 1), self.by("s1"))
        await self.presence.claim(two, self.by("s2"))
        await self.presence.release("d1", "s1")
        self.assertEqual(await self.presence.lookup("d1"), two)

    async def test_a_failing_callback_affects_no_other(self) -> None:
        def fail() -> None:
            raise RuntimeError("in replaced")

        two = self.at("s2", 2)
        await self.presence.claim(self.at("s1", 1), fail)
        await self.presence.claim(two, self.by("s2"))
        self.assertEqual(await self.presence.lookup("d1"), two)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    async def test_devices_may_have_any_name(self) -> None:
        for number, name in enumerate(("02:00:4c:aa", "客厅 设备", "a b\nc", "-1.5", "")):
            presence = self.at(f"s{number}", number, name)
            await self.presence.claim(presence, self.by(name))
            self.assertEqual(await self.presence.lookup(name), presence)
