"""Pictures uploaded over HTTP: the device's own agent describes them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from zope.interface import implementer
from zope.interface.verify import verifyObject

from xiaozhi.agents.agent import Agent
from xiaozhi.ai.session.vision import DeviceVision
from xiaozhi.base.call import CallContext, calling, current_call
from xiaozhi.base.errors import ProviderError, StoreError
from xiaozhi.base.values import Picture
from xiaozhi.interfaces import IVisionModel
from xiaozhi.test.ai.test_agent_services import Leased, ServicesCase
from xiaozhi.wire.messages import Device

CAT = Picture(b"a cat", "image/png", 1, 1)


@implementer(IVisionModel)
class NamedVision:
    """A vision model that answers with its owner."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: list[CallContext] = []
        self.answer: Deferred[str] = succeed(f"{name} sees a cat")

    def describe(self, picture: Picture, question: str) -> Deferred[str]:
        self.calls.append(current_call())
        return self.answer

    def close(self) -> Deferred[None]:
        return succeed(None)


class DeviceVisionTests(ServicesCase):
    def setUp(self) -> None:
        self.seers: dict[str, NamedVision] = {}
        super().setUp()
        self.agents: dict[str, Any] = {"aa": Agent("kitchen"), "bb": Agent("garden")}
        self.vision = DeviceVision(self.agent_of, self.table)

    def select(self, agent: Agent) -> Leased:
        leased = super().select(agent)
        leased.vlllm = self.seers.setdefault(agent.id, NamedVision(agent.id))
        return leased

    def agent_of(self, device: Device) -> Deferred[Agent]:
        found = self.agents[device.device_id]
        return found if isinstance(found, Deferred) else succeed(found)

    def look(self, device_id: str) -> Deferred[str]:
        with calling(CallContext(device_id=device_id, client_id="uuid", user_id="somebody")):
            return self.vision.describe(CAT, "What is this?")

    def test_each_device_s_own_agent_looks(self) -> None:
        for device_id, name in (("aa", "kitchen"), ("bb", "garden")):
            self.assertEqual(self.successResultOf(self.look(device_id)), f"{name} sees a cat")
            (call,) = self.seers[name].calls
            self.assertEqual((call.agent_id, call.device_id), (name, device_id))
            self.assertEqual((call.client_id, call.user_id), ("uuid", "somebody"))
        self.assertEqual([leased.released for _, leased in self.leased], [0, 1, 1])

    def test_an_agent_that_cannot_be_found(self) -> None:
        self.agents["aa"] = fail(StoreError("agents_unavailable", "no database"))
        self.assertEqual(self.successResultOf(self.look("aa")), "default sees a cat")

    def test_interface(self) -> None:
        self.assertTrue(verifyObject(IVisionModel, self.vision))
        self.successResultOf(self.vision.close())

    def test_without_a_device(self) -> None:
        words = self.vision.describe(CAT, "What is this?")
        self.assertEqual(self.successResultOf(words), "default sees a cat")

    def test_released_after_an_error(self) -> None:
        self.successResultOf(self.look("aa"))
        self.seers["kitchen"].answer = fail(ProviderError("busy", "no", retryable=True))
        error = self.failureResultOf(self.look("aa"), ProviderError).value
        self.assertEqual(error.code, "busy")
        self.assertEqual([leased.released for _, leased in self.leased], [0, 1, 1])

    def test_cancelling_ends_the_request(self) -> None:
        """While the agent is looked up, and while its model looks."""
        self.agents["aa"] = Deferred()
        looking = self.look("aa")
        looking.cancel()
        self.failureResultOf(looking, CancelledError)
        self.successResultOf(self.look("bb"))
        ended: list[Any] = []
        self.seers["garden"].answer = Deferred(ended.append)
        looking = self.look("bb")
        looking.cancel()
        self.failureResultOf(looking, CancelledError)
        self.assertEqual(len(ended), 1)
        self.assertEqual([leased.released for _, leased in self.leased], [0, 1, 1])
