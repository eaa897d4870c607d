"""Contract of every :class:`~xiaozhi.interfaces.IDeviceRegistry`, as tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList
from zope.interface.verify import verifyObject

from xiaozhi.base.errors import StoreError
from xiaozhi.base.ownership import (
    Applicant,
    ClaimLimits,
    DeviceClaim,
    DeviceState,
    Registered,
    UnknownDevice,
    fingerprint,
)
from xiaozhi.interfaces import IDeviceRegistry

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase
else:
    TestCase = object

AT = datetime(2026, 11, 30, 10, 0, 0, 123456, tzinfo=UTC)
LIMITS = ClaimLimits(devices=100, claims=50, claims_per_device=5, ttl=600.0)


def later(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def who(client: str = "c1", device_id: str = "d1", serial: str = "") -> Applicant:
    return Applicant(device_id, fingerprint(client), fingerprint(serial), "board/1.0")


class DeviceRegistryContract(TestCase):
    """Mix into a ``twisted.trial.unittest.TestCase`` that sets ``store`` in ``setUp``
    to a started, empty registry."""

    store: IDeviceRegistry

    async def claimed(self, applicant: Applicant, seconds: float = 0) -> Registered:
        found = await self.store.apply(applicant, UnknownDevice.CLAIM, LIMITS, later(seconds))
        assert isinstance(found, Registered), found
        return found

    async def asked(
        self,
        applicant: Applicant,
        seconds: float = 0,
        unknown: UnknownDevice = UnknownDevice.CLAIM,
        limits: ClaimLimits = LIMITS,
    ) -> DeviceClaim:
        found = await self.store.apply(applicant, unknown, limits, later(seconds))
        assert isinstance(found, DeviceClaim), found
        return found

    async def holders(self) -> list[tuple[str, str]]:
        found = await self.store.changes(0, 1000)
        return [(each.device_id, each.client) for each in found]

    async def refusal(self, call: Deferred[Any]) -> str:
        try:
            await call
        except StoreError as error:
            return error.code
        raise AssertionError("not refused")

    def test_provides_the_interface(self) -> None:
        verifyObject(IDeviceRegistry, self.store)

    async def test_the_first_client_holds_an_id(self) -> None:
        found = await self.claimed(who())
        self.assertEqual((found.client, found.state), (fingerprint("c1"), DeviceState.APPROVED))
        self.assertEqual((found.first_seen, found.used, found.about), (AT, False, "board/1.0"))
        self.assertEqual(await self.claimed(who(), 5), found)
        self.assertEqual(await self.store.changes(0, 10), [found])
        self.assertEqual(await self.store.changes(found.revision, 10), [])

    async def test_strangers_change_nothing_for_the_holder(self) -> None:
        """A stranger is refused, whatever it sends and however often."""
        holder = await self.claimed(who(serial="S"))
        strangers = [
            *(who(f"x{number}") for number in range(20)),
            *(who(f"x{number}", serial="S") for number in range(20)),
            who("c1"),
            who("c1", serial="T"),
            who("", serial="S"),
            who("' OR 1=1 --", serial="S"),
        ]
        for number, stranger in enumerate(strangers):
            for unknown in UnknownDevice:
                await self.asked(stranger, number, unknown)
        self.assertEqual(await self.store.changes(0, 1000), [holder])
        self.assertEqual(await self.claimed(who(serial="S")), holder)

    async def test_unknown_ids(self) -> None:
        for unknown, kind in ((UnknownDevice.CLAIM, Registered), (UnknownDevice.ASK, DeviceClaim)):
            found = await self.store.apply(who(device_id=kind.__name__), unknown, LIMITS, AT)
            self.assertIsInstance(found, kind)
        self.assertIsNone(await self.store.apply(who(), UnknownDevice.REFUSE, LIMITS, AT))
        self.assertEqual(len(await self.holders()), 1)

    async def test_a_code_stays_while_it_lives(self) -> None:
        await self.claimed(who())
        first = await self.asked(who("c2"), 1)
        self.assertRegex(first.code, r"\A[0-9]{6}\Z")
        again = await self.asked(who("c2"), 500)
        self.assertEqual((again.code, again.attempts), (first.code, 2))
        self.assertEqual((again.first_seen, again.last_seen), (later(1), later(500)))
        other = await self.asked(who("c3"), 500)
        self.assertNotEqual(other.code, first.code)
        self.assertEqual(
            [each.code for each in await self.store.claims(later(500), 10)],
            [each.code for each in sorted((again, other), key=lambda each: each.code)],
        )
        renewed = await self.asked(who("c2"), 602)
        self.assertEqual((renewed.attempts, renewed.first_seen), (1, later(602)))

    async def test_approval_gives_the_id_away(self) -> None:
        before = await self.claimed(who())
        claim = await self.asked(who("c2", serial="S"), 1)
        await self.asked(who("c3"), 2)
        after = await self.store.approve(claim.code, later(3))
        self.assertEqual((after.client, after.serial), (fingerprint("c2"), fingerprint("S")))
        self.assertGreater(after.revision, before.revision)
        self.assertEqual(await self.store.claims(later(3), 10), [])
        self.assertEqual(await self.claimed(who("c2", serial="S"), 4), after)
        await self.asked(who("c1"), 5)

    async def test_codes_that_are_none(self) -> None:
        await self.claimed(who())
        claim = await self.asked(who("c2"))
        for code, at in (("", AT), ("000000x", AT), ("\0", AT), (claim.code, later(600))):
            self.assertEqual(await self.refusal(self.store.approve(code, at)), "no_such_code")
        await self.store.approve(claim.code, later(1))
        self.assertEqual(
            await self.refusal(self.store.approve(claim.code, later(1))), "no_such_code"
        )

    async def test_nothing_is_bound_to_no_client(self) -> None:
        """Otherwise every client without an id would hold the device."""
        held = await self.claimed(who())
        claim = await self.asked(who("", serial="S"))
        refusal = await self.refusal(self.store.approve(claim.code, AT))
        self.assertEqual(refusal, "no_client_id")
        self.assertEqual(await self.store.changes(0, 10), [held])

    async def test_revocation(self) -> None:
        held = await self.claimed(who())
        waiting = await self.asked(who("c2"), 1)
        gone = await self.store.revoke("d1", later(9))
        self.assertEqual(gone.state, DeviceState.REVOKED)
        self.assertEqual(gone.revoked_at, int(later(9).timestamp()))
        self.assertGreater(gone.revision, held.revision)
        self.assertEqual(
            await self.refusal(self.store.approve(waiting.code, later(9))), "no_such_code"
        )
        claim = await self.asked(who(), 10)
        back = await self.store.approve(claim.code, later(11))
        self.assertEqual((back.state, back.client), (DeviceState.APPROVED, fingerprint("c1")))
        self.assertEqual(back.revoked_at, gone.revoked_at)
        self.assertGreater(back.revision, gone.revision)

    async def test_an_unowned_id_can_be_revoked(self) -> None:
        """A device may have a token that was issued by hand."""
        gone = await self.store.revoke("d9", AT)
        self.assertEqual((gone.state, gone.client), (DeviceState.REVOKED, ""))
        await self.asked(who(device_id="d9"))

    async def test_a_serial_number_counts_once_it_is_known(self) -> None:
        first = await self.claimed(who())
        noted = await self.claimed(who(serial="S"), 1)
        self.assertEqual(noted.serial, fingerprint("S"))
        self.assertGreater(noted.revision, first.revision)
        await self.asked(who(), 2)

    async def test_claims_are_bounded_and_repeated_ones_stay(self) -> None:
        await self.claimed(who())
        await self.asked(who("owner"), 1)
        code = (await self.asked(who("owner"), 2)).code
        for number in range(40):
            await self.asked(who(f"x{number}"), 3 + number)
        living = await self.store.claims(later(50), 1000)
        self.assertEqual(len(living), LIMITS.claims_per_device)
        self.assertIn(code, [each.code for each in living])
        for number in range(80):
            await self.claimed(who(device_id=f"e{number}"), 60)
            await self.asked(who("x", device_id=f"e{number}"), 60 + number)
        living = await self.store.claims(later(150), 1000)
        self.assertEqual(len(living), LIMITS.claims)
        self.assertIn(code, [each.code for each in living])

    async def test_devices_are_bounded(self) -> None:
        limits = replace(LIMITS, devices=3)
        for number in range(3):
            await self.store.apply(who(device_id=f"e{number}"), UnknownDevice.CLAIM, limits, AT)
        call = self.store.apply(who(device_id="e9"), UnknownDevice.CLAIM, limits, AT)
        self.assertEqual(await self.refusal(call), "registry_full")
        held = await self.store.apply(who(device_id="e1"), UnknownDevice.CLAIM, limits, AT)
        self.assertIsInstance(held, Registered)

    async def test_revisions_grow_and_are_read_in_portions(self) -> None:
        made = [await self.claimed(who(device_id=f"e{number}")) for number in range(5)]
        first = await self.store.changes(0, 2)
        rest = await self.store.changes(first[-1].revision, 100)
        self.assertEqual(first + rest, made)

    async def test_seen(self) -> None:
        for device_id in ("d1", "d2", "d3"):
            await self.claimed(who(device_id=device_id))
        await self.store.seen({"d1": True, "d2": False, "nobody": True}, later(9))
        await self.store.seen({}, later(9))
        found = {each.device_id: each for each in await self.store.devices(10)}
        self.assertEqual(set(found), {"d1", "d2", "d3"})
        self.assertEqual((found["d1"].used, found["d1"].last_seen), (True, later(9)))
        self.assertEqual((found["d2"].used, found["d2"].last_seen), (False, later(9)))
        self.assertEqual((found["d3"].used, found["d3"].last_seen), (False, AT))
        self.assertEqual([each.device_id for each in await self.store.devices(1)], ["d1"])

    async def test_purging(self) -> None:
        """A device that never talked is forgotten; one that talked or was revoked is not."""
        for device_id in ("used", "unused", "fresh", "bad"):
            await self.claimed(who(device_id=device_id))
        await self.store.seen({"used": True}, later(1))
        await self.store.seen({"fresh": False}, later(500))
        await self.store.revoke("bad", later(2))
        await self.asked(who("c2", device_id="used"))
        self.assertEqual(await self.store.purge(later(100), later(700), 1), 1)
        self.assertEqual(await self.store.purge(later(100), later(700), 10), 1)
        self.assertEqual(await self.store.purge(later(100), later(700), 10), 0)
        left = sorted(each.device_id for each in await self.store.devices(10))
        self.assertEqual(left, ["bad", "fresh", "used"])
        self.assertEqual(await self.store.claims(AT, 10), [])

    async def test_texts_no_database_takes_do_no_harm(self) -> None:
        for number, bad in enumerate(("a\0b", "\ud800", "x" * 300)):
            applicant = replace(who(device_id=f"e{number}"), about=bad)
            self.assertLessEqual(len((await self.claimed(applicant)).about), 255)

    async def test_first_comers_at_once(self) -> None:
        """Exactly one of them is the first."""
        calls: Sequence[Deferred[Any]] = [
            self.store.apply(who(f"c{number}"), UnknownDevice.CLAIM, LIMITS, AT)
            for number in range(5)
        ]
        results = await DeferredList(calls, fireOnOneErrback=True)
        kinds = [type(found) for _, found in results]
        self.assertEqual((kinds.count(Registered), kinds.count(DeviceClaim)), (1, 4))
        self.assertEqual(len(await self.holders()), 1)

    async def test_a_stopped_registry_says_so_and_can_be_started_again(self) -> None:
        await self.store.stop()
        self.assertEqual(await self.refusal(self.store.changes(0, 1)), "store_closed")
        await self.store.stop()
        await self.store.start()
