"""The agent of a session: awaited, replaced by the default one, adopted, released."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from xiaozhi.agents.agent import Agent
from xiaozhi.agents.settings import (
    AnnounceSettings,
    DialogueSettings,
    IdleSettings,
    ListenSettings,
    RoleSettings,
    SessionSettings,
)
from xiaozhi.ai.session.leases import AgentLeases
from xiaozhi.ai.session.services import AgentServices
from xiaozhi.ai.session.session import Session
from xiaozhi.ai.session.states import SessionState
from xiaozhi.base.errors import StoreError
from xiaozhi.base.toolpolicy import ToolPolicy
from xiaozhi.device.identity import numbered
from xiaozhi.test.ai.test_ai_session import AUTO, GO, WAKE, Edge
from xiaozhi.test.ai.test_model_input import RecordingModel
from xiaozhi.testing.conversation import ConversationCase
from xiaozhi.testing.edge import DEVICE
from xiaozhi.testing.house import SPEECH, House
from xiaozhi.testing.logs import LogLines
from xiaozhi.testing.parts import Doubles, scripted
from xiaozhi.wire import messages as m

WAIT = 3.0


class Counted(AgentLeases):
    """:ivar held: agents whose services are leased, in the order of the leases."""

    held: list[str]

    def counted(self, services: AgentServices) -> AgentServices:
        agent = services.agent.id + services.agent.version
        self.held.append(agent)
        released: list[None] = []

        def release() -> None:
            if not released:
                released.append(None)
                self.held.remove(agent)
                services.release()

        return replace(services, _release=release)

    @property
    def default(self) -> AgentServices:
        return self.counted(super().default)

    def lease(self, device: m.Device) -> Deferred[AgentServices]:
        return super().lease(device).addCallback(self.counted)


class AgentCase(ConversationCase):
    def set_stage(self) -> None:
        self.stage: House = self.house(llm={"answers": ("Yes.",)})
        self.leases = Counted(self.stage.agents, self.stage.services)
        self.leases.held = []
        self.lines = LogLines(self)

    def agent(self, name: str = "kitchen", version: str = "", **fields: Any) -> Agent:
        return Agent(id=name, version=version, **fields)

    def equip(self, name: str, answer: str, **doubles: Doubles) -> None:
        """Give an agent providers with these answers."""
        doubles.setdefault("llm", {"answers": (answer,)})
        self.stage.agent_providers[name] = scripted(self.stage.clock, **doubles)

    def begin(self) -> None:
        downlink = m.AudioParams(sample_rate=24000)
        opening = m.SessionOpen("s", DEVICE, m.Hello(), downlink)
        self.edge = Edge()
        self.edge.hear = self.later
        self.session = Session(opening, self.edge, self.stage.shared, self.leases)
        self.addCleanup(self.session.closed, "", "")

    def later(self, message: m.Uplink) -> None:
        self.stage.clock.callLater(0, self.session.received, message)

    def ask(self, seconds: float = 2.0) -> None:
        self.session.received(GO)
        self.stage.run(seconds)

    def pending(
        self, canceller: Callable[[Deferred[Agent]], None] | None = None
    ) -> Deferred[Agent]:
        """Let the look-up of the device's agent never end."""
        found: Deferred[Agent] = Deferred(canceller)
        self.stage.agents.assigned[DEVICE.device_id] = found
        return found


class OpeningTests(AgentCase):
    def setUp(self) -> None:
        self.set_stage()
        self.equip("kitchen", "Soup.")

    def test_known_at_once(self) -> None:
        self.stage.agents.assigned[DEVICE.device_id] = self.agent()
        self.begin()
        self.ask()
        self.assertEqual(self.edge.sentences(), ["Soup."])
        self.assertEqual(self.leases.held, ["kitchen"])
        self.session.closed("", "")
        self.assertEqual(self.leases.held, [])

    def test_its_roles_are_offered_until_the_end(self) -> None:
        roles = {name: RoleSettings(prompt="You are one.") for name in ("pirate", "xiaozhi")}
        settings = SessionSettings(roles=roles)
        self.stage.agents.assigned[DEVICE.device_id] = self.agent(settings=settings)
        self.begin()
        conversation = self.session._conversation
        assert conversation is not None
        offered = [tool.name for tool in conversation._tools.toolbox.specs]
        self.assertIn("switch_role", offered)
        self.session.closed("", "")
        self.assertIs(conversation.state, SessionState.CLOSED)

    def test_messages_wait_in_their_order(self) -> None:
        found = self.pending()
        self.begin()
        self.session.received(AUTO)
        self.session.received(m.Audio(b"\xff\xff\xff"))
        self.ask(WAIT - 0.5)
        self.assertEqual(self.edge.sent, [])
        found.callback(self.agent())
        self.stage.run(2)
        self.assertEqual(self.edge.sentences(), ["Soup."])
        self.session.closed("", "")
        # The packet came after the start, so it was processed.
        self.assertEqual(self.stage.shared.counts.bad_packets, 1)
        self.assertEqual(self.lines.count("default"), 0)

    def test_fails(self) -> None:
        found = self.pending()
        self.begin()
        self.session.received(GO)
        found.errback(StoreError("down", "the database is away"))
        self.stage.run(2)
        self.assertEqual(self.edge.sentences(), ["Yes."])
        self.assertEqual(self.lines.count("the default agent serves: the database is away"), 1)
        self.assertEqual(self.leases.held, ["default"])

    def test_never_answers(self) -> None:
        self.pending()
        self.begin()
        self.ask(WAIT - 0.1)
        self.assertEqual(self.edge.sent, [])
        self.stage.run(2)
        self.assertEqual(self.edge.sentences(), ["Yes."])
        self.assertEqual(self.lines.count("no agent within 3.0 s"), 1)

    def test_the_wait_is_configurable(self) -> None:
        runtime = replace(self.stage.shared.runtime, agent_wait=0.5)
        self.stage.shared = replace(self.stage.shared, runtime=runtime)
        self.pending()
        self.begin()
        self.ask(0.4)
        self.assertEqual(self.edge.sent, [])
        self.stage.run(2)
        self.assertEqual(self.edge.sentences(), ["Yes."])

    def test_a_late_answer_is_adopted_at_the_next_turn(self) -> None:
        found = self.pending()
        self.begin()
        self.ask(WAIT + 2)
        found.callback(self.agent())
        self.assertEqual(self.leases.held, ["default", "kitchen"])
        self.ask()
        self.assertEqual(self.edge.sentences(), ["Yes.", "Soup."])
        self.assertEqual(self.leases.held, ["kitchen"])

    def test_an_agent_that_cannot_be_used_ends_the_session(self) -> None:
        """Otherwise messages would wait for ever."""
        doubles = self.stage.agent_providers["kitchen"]
        self.stage.agent_providers["kitchen"] = replace(doubles, vad=cast(Any, None))
        self.stage.agents.assigned[DEVICE.device_id] = self.agent()
        self.begin()
        self.session.received(GO)
        self.stage.run(0.1)
        self.assertEqual(self.edge.ended, ("internal_error", ""))
        self.assertEqual(self.leases.held, [])
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)

    def test_a_closed_session_cancels(self) -> None:
        cancelled: list[Deferred[Agent]] = []
        self.pending(cancelled.append)
        self.begin()
        self.session.closed("", "")
        self.assertEqual(len(cancelled), 1)
        self.stage.run(WAIT + 1)
        self.assertEqual((self.leases.held, self.edge.sent), ([], []))
        self.assertEqual(self.lines.count("agent"), 0)

    def test_an_answer_after_the_end_is_released(self) -> None:
        """The look-up could no longer be cancelled."""
        self.pending(lambda found: found.callback(self.agent()))
        self.begin()
        self.session.closed("", "")
        self.stage.run(WAIT + 1)
        self.assertEqual((self.leases.held, self.edge.sent), ([], []))

    def test_a_failure_after_the_end(self) -> None:
        self.pending(lambda found: found.errback(Failure(StoreError("down", "away"))))
        self.begin()
        self.session.closed("", "")
        self.assertEqual(self.lines.count("agent"), 0)

    def test_the_process_stops_meanwhile(self) -> None:
        found = self.pending()
        self.begin()
        self.session.draining()
        self.assertIsNone(self.edge.ended)
        found.callback(self.agent())
        self.stage.run(0.1)
        self.assertEqual(self.edge.ended, ("moving", ""))
        self.assertEqual(self.leases.held, [])

    def test_the_opening_queue_is_bounded(self) -> None:
        for message, most in ((m.Chat(" "), 256), (m.Image(data=bytes(1 << 20)), 3)):
            self.lines.lines.clear()
            found = self.pending()
            self.begin()
            for _ in range(most):
                self.session.received(message)
            self.assertEqual(self.lines.count("too many messages wait"), 0)
            self.session.received(message)
            self.assertEqual(self.lines.count("too many messages wait"), 1)
            self.assertEqual(self.leases.held, ["default"])
            found.callback(self.agent())
            self.session.closed("", "")
            self.assertEqual(self.leases.held, [])

    def test_sound_is_held_without_hurry(self) -> None:
        self.pending()
        self.begin()
        for _ in range(400):
            self.session.received(m.Audio(bytes(100)))
        self.assertEqual(self.leases.held, [])

    def test_a_change_during_the_look_up(self) -> None:
        cancelled: list[Deferred[Agent]] = []
        self.pending(cancelled.append)
        self.begin()
        self.session.received(GO)
        self.stage.agents.assign(DEVICE.device_id, self.agent())
        self.stage.run(2)
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(self.edge.sentences(), ["Soup."])

    def test_an_outdated_look_up(self) -> None:
        """It could no longer be cancelled; its result is outdated."""
        self.equip("study", "Read.")
        self.pending(lambda found: found.callback(self.agent("study")))
        self.begin()
        self.stage.agents.assign(DEVICE.device_id, self.agent())
        self.ask()
        self.assertEqual(self.edge.sentences(), ["Soup."])
        self.assertEqual(self.lines.count("from the next turn on"), 0)

    def test_resumed_by_another_process(self) -> None:
        """The other process has to look up the agent too, while messages wait."""
        house = self.stage
        device_id = numbered(1).device_id
        house.agents.assigned[device_id] = self.agent()
        visitor = house.connect()
        self.assertEqual(house.until(visitor.device.text("one")).text, "Soup.")
        found: Deferred[Agent] = Deferred()
        house.agents.assigned[device_id] = found
        runtime = replace(house.shared.runtime, agent_wait=30.0)
        house.shared = replace(house.shared, runtime=runtime)
        house.kill_ai()
        house.run(1)
        house.start_ai()
        house.run(12)
        answering = visitor.device.text("two")
        house.run(1)
        found.callback(self.agent())
        self.assertEqual(house.until(answering).text, "Soup.")


class AdoptionTests(AgentCase):
    def setUp(self) -> None:
        self.set_stage()
        self.equip("kitchen", "Soup.")
        self.stage.agents.assigned[DEVICE.device_id] = self.agent(version="1")
        self.begin()

    def adopt(self, agent: Agent) -> None:
        self.stage.agents.assign(DEVICE.device_id, agent)

    def test_the_running_turn_ends_with_its_own_agent(self) -> None:
        self.edge.slow = True
        self.ask(1)
        self.equip("kitchen", "Salad.")
        self.adopt(self.agent(version="2"))
        self.assertEqual(self.leases.held, ["kitchen1", "kitchen2"])
        self.edge.hear(m.Playback(1, m.PlaybackState.FINISHED, 1000))
        self.stage.run(1)
        self.assertEqual(self.edge.sentences(), ["Soup."])
        self.edge.slow = False
        self.ask()
        self.assertEqual(self.edge.sentences(), ["Soup.", "Salad."])
        self.assertEqual(self.leases.held, ["kitchen2"])
        self.assertIsNone(self.edge.ended)

    def test_the_former_one_is_used_until_the_first_turn_is_over(self) -> None:
        """Its recogniser may have that turn's question."""
        self.ask()
        self.adopt(self.agent(version="2"))
        self.edge.slow = True
        self.ask()
        self.assertEqual(self.leases.held, ["kitchen1", "kitchen2"])
        self.edge.hear(m.Playback(2, m.PlaybackState.FINISHED, 1000))
        self.stage.run(0.1)
        self.assertEqual(self.leases.held, ["kitchen2"])

    def test_another_agent_with_the_dialogue_so_far(self) -> None:
        self.equip("study", "{words}")
        doubles = self.stage.agent_providers["study"]
        witness = RecordingModel(doubles.llm)
        self.stage.agent_providers["study"] = replace(doubles, llm=witness)
        self.ask()
        settings = SessionSettings(dialogue=DialogueSettings(prompt="You teach."))
        policy = ToolPolicy(deny=("get_*",))
        self.adopt(self.agent("study", settings=settings, tools=policy))
        self.ask()
        self.assertEqual(witness.told[0][0].text, "You teach.")
        self.assertEqual(witness.words(), ["go", "Soup.", "go"])
        conversation = self.session._conversation
        assert conversation is not None
        offered = [tool.name for tool in conversation._tools.toolbox.specs]
        self.assertEqual(offered, ["end_conversation"])

    def test_its_voice(self) -> None:
        self.ask()
        before = sum(isinstance(each, m.Audio) for each in self.edge.sent)
        self.equip("kitchen", "Soup.", tts={"milliseconds": 300})
        self.adopt(self.agent(version="2"))
        self.edge.sent.clear()
        self.ask()
        after = sum(isinstance(each, m.Audio) for each in self.edge.sent)
        self.assertNotEqual(before, after)

    def test_its_idle_time(self) -> None:
        self.session.received(AUTO)
        settings = SessionSettings(idle=IdleSettings(no_speech=5.0, farewell=False))
        self.adopt(self.agent(version="2", settings=settings))
        self.ask()
        self.session.received(AUTO)
        self.stage.run(4)
        self.assertIsNone(self.edge.ended)
        self.stage.run(2)
        self.assertEqual(self.edge.ended, ("farewell", ""))

    def test_its_roles(self) -> None:
        self.ask()
        conversation = self.session._conversation
        assert conversation is not None
        conversation._roles.recalled("xiaozhi")
        roles = {
            "pirate": RoleSettings(prompt="You are a pirate.", greeting=("Ahoy.",)),
            "xiaozhi": RoleSettings(prompt="You are XiaoZhi.", greeting=("Hello there.",)),
        }
        settings = SessionSettings(roles=roles, role="pirate")
        self.adopt(self.agent(version="2", settings=settings))
        self.ask()
        names = [tool.name for tool in conversation._tools.toolbox.specs]
        self.assertEqual([name for name in names if "role" in name], ["switch_role"])
        # The role so far is kept, as the new agent has it, too.
        self.session.received(WAKE)
        self.stage.run(2)
        self.assertEqual(self.edge.sentences(), ["Soup.", "Soup.", "Hello there."])

    def test_its_settings_for_interruptions_and_announcements(self) -> None:
        listen, announce = ListenSettings(barge_in=0.9), AnnounceSettings(tries=7)
        settings = SessionSettings(listen=listen, announce=announce, announcements=1)
        self.adopt(self.agent(version="2", settings=settings))
        self.ask()
        conversation = self.session._conversation
        assert conversation is not None
        self.assertIs(conversation._interruption._settings, listen)
        self.assertIs(conversation._announcements._settings, announce)
        self.assertEqual(conversation._announcements._most, 1)

    def test_its_recogniser(self) -> None:
        """The turn that adopts the agent still has the words of the former one."""
        house = self.stage
        visitor = house.connect()
        self.equip("study", "Read.", asr={"texts": ("words of the new one",)})
        house.agents.assign(visitor.device.identity.device_id, self.agent("study"))
        heard = [house.until(visitor.device.say(SPEECH)).heard for _ in range(2)]
        self.assertNotEqual(heard[0], heard[1])
        self.assertEqual(heard[1], "words of the new one")

    def test_the_same_version_again(self) -> None:
        self.adopt(self.agent(version="1"))
        self.assertEqual(self.leases.held, ["kitchen1"])
        self.assertEqual(self.lines.count("from the next turn on"), 0)

    def test_the_newest_of_several(self) -> None:
        for version in "23":
            self.equip("kitchen", f"Dish {version}.")
            self.adopt(self.agent(version=version))
        self.assertEqual(self.leases.held, ["kitchen1", "kitchen3"])
        self.ask()
        self.assertEqual(self.edge.sentences(), ["Dish 3."])
        self.assertEqual(self.leases.held, ["kitchen3"])

    def test_the_old_version_again_before_a_turn(self) -> None:
        self.adopt(self.agent(version="2"))
        self.adopt(self.agent(version="1"))
        self.ask()
        self.assertEqual(self.edge.sentences(), ["Soup."])
        self.assertEqual(self.leases.held, ["kitchen1"])

    def test_one_that_cannot_be_found_changes_nothing(self) -> None:
        failed: Deferred[Agent] = Deferred()
        failed.errback(StoreError("down", "away"))
        self.stage.agents.assign(DEVICE.device_id, failed)
        self.ask()
        self.assertEqual(self.edge.sentences(), ["Soup."])
        self.assertEqual(self.lines.count("the agent is kept: away"), 1)

    def test_all_are_released_at_the_end(self) -> None:
        self.ask()
        self.adopt(self.agent(version="2"))
        self.edge.slow = True
        self.ask()
        self.adopt(self.agent(version="3"))
        self.assertEqual(self.leases.held, ["kitchen1", "kitchen2", "kitchen3"])
        self.session.closed("", "")
        self.assertEqual(self.leases.held, [])
        self.assertEqual(self.stage.agents._watchers, [])
