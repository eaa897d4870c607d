"""Contract of every :class:`~xiaozhi.interfaces.IDeviceInbox` with readers, as tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from zope.interface.verify import verifyObject

from xiaozhi.base.errors import StoreError
from xiaozhi.base.values import Receipt
from xiaozhi.cache import InboxSettings
from xiaozhi.interfaces import IDeviceInbox, IInboxReader
from xiaozhi.wire.mail import Mail

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase
else:
    TestCase = object

SETTINGS = InboxSettings(per_device=3, total=5, receipt_timeout=0.5)


def mail(number: int) -> Mail:
    """Make a mail."""
    return Mail(message=f'{{"number":{number}}}')


class InboxContract(TestCase):
    """Mix into a ``twisted.trial.unittest.TestCase`` that sets ``inbox`` in ``setUp`` to a started,
    unused one of the node ``node-a`` with :data:`SETTINGS`.
    """

    inbox: Any

    def setUp(self) -> None:
        self.got: list[tuple[str, Mail]] = []

    async def claim(self, device_id: str, session_id: str) -> None:
        """Claim the session's device, as a session does before it is attached."""
        raise NotImplementedError

    async def wait(self, seconds: float) -> None:
        """Let time pass."""
        raise NotImplementedError

    async def now(self) -> float:
        """Return the seconds since the epoch on the inbox's clock."""
        raise NotImplementedError

    async def arrive(
        self, session_id: str, device_id: str = "d1", *, most: int = 100, before: int = 0
    ) -> None:
        """Attach a session.

        :param most: letters that it accepts before its link breaks.
        :param before: letters that must have arrived in total when this returns.
        """

        await self.claim(device_id, session_id)
        self.inbox.attach(device_id, session_id, self.taker(session_id, most))
        await self.until(lambda: len(self.got) >= before)

    def taker(self, session_id: str, most: int = 100) -> Callable[[Mail], bool]:
        """Make a function that delivers mail to a session.

        :param most: letters that it accepts before its link breaks.
        """

        def deliver(one: Mail) -> bool:
            nonlocal most
            most -= 1
            if most < 0:
                return False
            self.got.append((session_id, one))
            return True

        return deliver

    async def until(self, true: Callable[[], bool]) -> None:
        """Let time pass until a condition holds."""
        for _ in range(300):
            if true():
                return
            await self.wait(0.01)
        raise AssertionError(f"did not happen in time; came: {self.got}")

    async def refused(self, posting: Awaitable[Receipt]) -> str:
        """Return the code of the error."""
        try:
            receipt = await posting
        except StoreError as error:
            return error.code
        raise AssertionError(f"not refused: {receipt}")

    def test_provides_the_interfaces(self) -> None:
        verifyObject(IDeviceInbox, self.inbox)
        verifyObject(IInboxReader, self.inbox)

    async def test_a_device_that_is_there(self) -> None:
        await self.arrive("s1")
        receipt = await self.inbox.post("d1", mail(1), 60)
        self.assertEqual(receipt, Receipt(True, "node-a"))
        self.assertEqual(self.got, [("s1", mail(1))])

    async def test_both_kinds_survive_the_way(self) -> None:
        await self.arrive("s1")
        for one in (Mail(say='Tea "is" 好了\n'), Mail(message='{"type":"x","n":[1.0,"é"]}')):
            await self.inbox.post("d1", one, 60)
        self.assertEqual(
            [one for _, one in self.got],
            [Mail(say='Tea "is" 好了\n'), Mail(message='{"type":"x","n":[1.0,"é"]}')],
        )

    async def test_a_device_that_comes_later(self) -> None:
        before = await self.now()
        for number in range(3):
            receipt = await self.inbox.post("d1", mail(number), 60)
            self.assertFalse(receipt.delivered)
            self.assertLess(abs(receipt.expires - before - 60), 5)
        await self.arrive("s1", before=3)
        self.assertEqual(self.got, [("s1", mail(number)) for number in range(3)])
        self.inbox.detach("d1", "s1")
        await self.arrive("s2")
        await self.wait(0.1)
        self.assertEqual(len(self.got), 3, "once only")

    async def test_not_to_be_kept(self) -> None:
        self.assertEqual(await self.inbox.post("d1", mail(1), 0), Receipt(False))
        await self.arrive("s1")
        receipt = await self.inbox.post("d1", mail(2), 0)
        self.assertTrue(receipt.delivered)
        self.assertEqual(self.got, [("s1", mail(2))])

    async def test_letters_expire(self) -> None:
        await self.inbox.post("d1", mail(1), 0.05)
        await self.inbox.post("d1", mail(2), 60)
        await self.wait(0.1)
        await self.arrive("s1", before=1)
        await self.wait(0.05)
        self.assertEqual(self.got, [("s1", mail(2))])

    async def test_bounded_per_device_and_in_all(self) -> None:
        for number in range(3):
            await self.inbox.post("d1", mail(number), 60)
        self.assertEqual(await self.refused(self.inbox.post("d1", mail(9), 60)), "inbox_full")
        await self.inbox.post("d2", mail(3), 60)
        await self.inbox.post("d2", mail(4), 0.05)
        self.assertEqual(await self.refused(self.inbox.post("d3", mail(9), 60)), "inboxes_full")
        await self.wait(0.1)
        await self.inbox.post("d3", mail(5), 60)
        # Delivery frees capacity.
        await self.arrive("s1", before=3)
        await self.wait(0.05)
        self.inbox.detach("d1", "s1")
        for number in range(3):
            await self.inbox.post("d1", mail(number), 60)

    async def test_a_link_that_breaks_leaves_the_rest(self) -> None:
        for number in range(3):
            await self.inbox.post("d1", mail(number), 60)
        await self.arrive("s1", most=1, before=1)
        self.inbox.detach("d1", "s1")
        await self.arrive("s2", before=3)
        self.assertEqual(
            self.got, [("s1", mail(0)), ("s2", mail(1)), ("s2", mail(2))], "in order, each once"
        )

    async def test_a_link_that_cannot_send(self) -> None:
        await self.arrive("s1", most=0)
        receipt = await self.inbox.post("d1", mail(1), 60)
        self.assertFalse(receipt.delivered)
        self.assertGreater(receipt.expires, await self.now())
        self.inbox.detach("d1", "s1")
        await self.arrive("s2", before=1)
        self.assertEqual(self.got, [("s2", mail(1))])

    async def test_the_newer_session_gets_it(self) -> None:
        await self.arrive("s1")
        await self.arrive("s2")
        self.inbox.detach("d1", "s1")
        self.assertTrue((await self.inbox.post("d1", mail(1), 60)).delivered)
        self.assertEqual(self.got, [("s2", mail(1))])

    async def test_a_disconnected_device_gets_nothing(self) -> None:
        await self.arrive("s1")
        self.inbox.detach("d1", "s1")
        self.inbox.detach("d1", "s1")
        self.assertFalse((await self.inbox.post("d1", mail(1), 60)).delivered)
        self.assertEqual(self.got, [])

    async def test_devices_do_not_meet(self) -> None:
        await self.arrive("s1", "d1")
        await self.arrive("s2", "d2")
        await self.inbox.post("d2", mail(2), 60)
        await self.inbox.post("d1", mail(1), 60)
        self.assertEqual(self.got, [("s2", mail(2)), ("s1", mail(1))])

    async def test_devices_may_have_any_name(self) -> None:
        for number, name in enumerate(("02:00:4c:aa", "a b", "客厅 设备")):
            await self.arrive(f"s{number}", name)
            self.assertTrue((await self.inbox.post(name, mail(number), 60)).delivered)
