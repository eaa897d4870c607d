"""Agents of a configuration: inheritance, checks, assignment, reload."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xiaozhi.agents.agent import Agent
from xiaozhi.agents.book import AgentBook, BookReader
from xiaozhi.agents.files import FileAgents, FileReading
from xiaozhi.agents.settings import Detector, SessionSettings
from xiaozhi.base.errors import ConfigError
from xiaozhi.base.toolpolicy import ToolPolicy
from xiaozhi.interfaces import IAgents
from xiaozhi.providers.kit.catalogue import ProviderCatalogue
from xiaozhi.runtime.config import read_section
from xiaozhi.testing.logs import LogLines
from xiaozhi.wire.messages import Device

SELECTED = {
    "asr": "scripted",
    "llm": "scripted",
    "tts": "tone",
    "vlllm": "scripted",
    "vad": "energy",
}
PROVIDERS = {
    "llm": {"scripted/chef": {"answers": ["Soup."]}, "scripted/poet": {"answers": ["Rhyme."]}},
    "tts": {"espeak": {}},
}
read = partial(read_section, path="ai.yaml")


def book(
    agents: Mapping[str, Any],
    devices: Mapping[str, str] | None = None,
    session: SessionSettings | None = None,
    providers: Mapping[str, Any] = PROVIDERS,
) -> AgentBook:
    catalogue = ProviderCatalogue(providers, read)
    reader = BookReader(session or SessionSettings(), SELECTED, catalogue, read)
    return reader.read(agents, devices or {})


class BookTests(SynchronousTestCase):
    def test_the_default_agent_has_the_sections_session_and_selected(self) -> None:
        default = book({}).default
        self.assertEqual((default.id, default.settings), ("default", SessionSettings()))
        self.assertEqual(default.providers["llm"], ("scripted",))
        self.assertEqual((default.voice, default.tools), ({}, ToolPolicy()))
        self.assertTrue(default.version)

    def test_overrides_of_an_agent(self) -> None:
        section = {
            "name": "Chef",
            "prompt": "You are a chef.",
            "language": "de",
            "greeting": "Hallo!",
            "providers": {"llm": ["scripted/chef", "scripted"]},
            "memory": {"kind": "summary", "window": 2000},
            "tools": {"allow": ["get_*"], "deny": ["get_date"]},
            "listen": {"end_silence": 0.9, "detector": "text"},
            "idle": {"no_speech": 60},
            "dialogue": {"location": "the kitchen"},
        }
        agents = book({"chef": section}).agents
        chef, default = agents["chef"], agents["default"]
        settings = chef.settings
        self.assertEqual((chef.id, chef.name), ("chef", "Chef"))
        self.assertEqual(settings.roles[settings.role].prompt, "You are a chef.")
        self.assertEqual(settings.wake.greetings, ("Hallo!",))
        self.assertEqual(settings.wake.words, default.settings.wake.words)
        self.assertEqual(settings.dialogue.language, "de")
        self.assertEqual((settings.dialogue.memory, settings.dialogue.window), ("summary", 2000))
        self.assertEqual(settings.dialogue.location, "the kitchen")
        self.assertEqual(settings.listen.end_silence, 0.9)
        self.assertIs(settings.listen.detector, Detector.TEXT)
        self.assertEqual(settings.listen.start, default.settings.listen.start)
        self.assertEqual(settings.idle.no_speech, 60)
        self.assertEqual(chef.providers["llm"], ("scripted/chef", "scripted"))
        self.assertEqual(chef.providers["tts"], default.providers["tts"])
        self.assertTrue(chef.tools.permits("functions", "get_time"))
        self.assertFalse(chef.tools.permits("functions", "get_date"))
        self.assertNotEqual(chef.version, default.version)

    def test_inheritance(self) -> None:
        agents = book(
            {
                "baker": {"inherits": "chef", "language": "fr", "listen": {"start": 0.15}},
                "chef": {"prompt": "You cook.", "listen": {"end_silence": 0.9}},
                "default": {"idle": {"no_speech": 30}},
            }
        ).agents
        baker = agents["baker"].settings
        self.assertEqual(baker.roles[baker.role].prompt, "You cook.")
        self.assertEqual((baker.listen.end_silence, baker.listen.start), (0.9, 0.15))
        self.assertEqual([each.settings.idle.no_speech for each in agents.values()], [30] * 3)

    def test_roles(self) -> None:
        roles = {"pirate": {"prompt": "Arr."}, "poet": {"prompt": "Rhyme."}}
        settings = book({"x": {"roles": roles, "role": "poet"}}).agents["x"].settings
        self.assertEqual((sorted(settings.roles), settings.role), (["pirate", "poet"], "poet"))
        settings = book({"x": {"roles": roles}}).agents["x"].settings
        self.assertEqual(settings.role, "pirate")

    # Sections of agents; assignment; the error, which begins with the key.
    BAD: tuple[tuple[dict[str, Any], dict[str, str], str], ...] = (
        ({"x": {"listen": {"end_silence": "long"}}}, {}, "ai.yaml: agents.x.listen.end_silence: "),
        (
            {"x": {"listen": {"min_delay": 2, "max_delay": 1}}},
            {},
            "ai.yaml: agents.x.listen: ",
        ),
        ({"x": {"listening": {}}}, {}, "ai.yaml: agents.x.listening: unknown key; did you mean"),
        ({"x": {"inherits": "nobody"}}, {}, "agents.x.inherits: there is no agent nobody; there"),
        ({"a": {"inherits": "b"}, "b": {"inherits": "a"}}, {}, "agents.b.inherits: agents inherit"),
        ({"a": {"inherits": "a"}}, {}, "agents.a.inherits: agents inherit from each other in a"),
        ({"default": {"inherits": "a"}, "a": {}}, {}, "agents.default.inherits: the default agent"),
        ({"x": {"prompt": "Hello {nobody}."}}, {}, "agents.x.prompt: "),
        ({"x": {"dialogue": {"prompt": "No {thing}."}}}, {}, "agents.x.dialogue.prompt: "),
        ({"x": {"role": "cook"}}, {}, "agents.x.role: there is no role cook; agents.x.roles has"),
        (
            {"x": {"providers": {"llm": "gone"}}},
            {},
            "agents.x.providers.llm: there is no",
        ),
        (
            {"x": {"providers": {"hearing": "scripted"}}},
            {},
            "agents.x.providers.hearing: no such kind",
        ),
        ({"x": {"providers": {"llm": []}}}, {}, "agents.x.providers.llm: names no provider"),
        (
            {"x": {"voice": {"id": "alto"}}},
            {},
            "agents.x.voice.id: tts provider tone",
        ),
        ({"x": {"voice": {"rate": 100}}}, {}, "ai.yaml: agents.x.voice.rate: expected"),
        ({"x": {"memory": {"kind": "all"}}}, {}, "ai.yaml: agents.x.memory.kind: expected"),
        ({"x": {"memory": {"window": 1}}}, {}, "ai.yaml: agents.x.dialogue.window: expected"),
        ({"two words": {}}, {}, "agents.two words: an agent's id consists of letters"),
        ({"x": 7}, {}, "ai.yaml: agents.x: expected a mapping"),
        ({}, {"aa:*": "x"}, "devices.agents.aa:*: there is no agent x; there are default"),
    )

    def test_errors_name_the_key(self) -> None:
        for agents, devices, start in self.BAD:
            error = self.assertRaises(ConfigError, book, agents, devices)
            self.assertTrue(error.message.startswith(start), error.message)

    def test_which_device(self) -> None:
        found = book(
            {"a": {}, "b": {}, "c": {}},
            {"aa:*": "a", "aa:bb:*": "b", "AA:BB:01": "c", "??:cc:*": "c"},
        )
        for device, agent in (
            ("aa:11:22", "a"),
            ("aa:bb:02", "a"),  # the first pattern that matches
            ("AA:BB:01", "c"),  # the id itself
            ("dd:CC:00", "c"),
            ("ee:00:00", "default"),
        ):
            self.assertEqual(found.of(device).id, agent, device)

    def test_versions(self) -> None:
        former = book({"a": {}, "b": {}, "gone": {}})
        newer = book({"a": {}, "b": {"language": "fr"}, "new": {}})
        self.assertEqual(former.changed(former), ())
        self.assertEqual(former.changed(newer), ("b", "gone", "new"))
        # A provider's settings are part of the agents that use it.
        chef = {"a": {}, "chef": {"providers": {"llm": "scripted/chef"}}}
        other = {**PROVIDERS, "llm": {"scripted/chef": {"answers": ["Stew."]}}}
        self.assertEqual(book(chef).changed(book(chef, providers=other)), ("chef",))

    def test_policy(self) -> None:
        policy = ToolPolicy(sources=("mcp*",), allow=("*",), deny=("*reboot*",), confirm=("buy",))
        self.assertTrue(policy.permits("mcp.home", "light"))
        self.assertFalse(policy.permits("functions", "light"))
        self.assertFalse(policy.permits("mcp.home", "self.reboot"))
        self.assertEqual((policy.confirms("buy"), policy.confirms("look")), (True, False))

    def test_confirmations_by_either_spelling(self) -> None:
        policy = ToolPolicy(confirm=("self.door.*", "Lock_?pen"))
        self.assertTrue(policy.confirms("self.door.open", "self_door_open"))
        self.assertTrue(policy.confirms("Lock.Open", "Lock_Open"))
        self.assertFalse(policy.confirms("self.lamp.on", "self_lamp_on"))
        self.assertFalse(ToolPolicy().confirms("self.door.open"))
        self.assertTrue(ToolPolicy(confirm=("*",)).confirms("anything"))


class ReloadTests(SynchronousTestCase):
    """Reload of the file."""

    def setUp(self) -> None:
        self.sections: dict[str, Any] = {"chef": {}}
        self.devices = {"aa:*": "chef"}
        self.unusable = ""
        self.restart: tuple[str, ...] = ()
        self.applied = self.told = 0
        self.log = LogLines(self)
        self.agents = FileAgents(book(self.sections, self.devices), self.reading, self.offload)

    def offload(self, function: Any, *args: Any) -> Deferred[Any]:
        try:
            return succeed(function(*args))
        except Exception:
            return fail()

    def reading(self) -> FileReading:
        def apply() -> None:
            if self.unusable:
                raise ConfigError(self.unusable)
            self.applied += 1

        return FileReading(book(self.sections, self.devices), apply, self.restart)

    def agent(self, device_id: str = "aa:01") -> Agent:
        return self.successResultOf(self.agents.for_device(Device(device_id, "", "")))

    def note(self) -> None:
        self.told += 1

    def test_interface(self) -> None:
        verifyObject(IAgents, self.agents)

    def test_a_new_version(self) -> None:
        stop = self.agents.watch(self.note)
        former = self.agent()
        self.sections["chef"] = {"language": "fr"}
        report = self.successResultOf(self.agents.reload())
        self.assertEqual((report.changed, report.error), (("chef",), ""))
        self.assertEqual((self.told, self.applied), (1, 1))
        self.assertEqual(self.agent().settings.dialogue.language, "fr")
        self.assertNotEqual(self.agent().version, former.version)
        stop()
        stop()
        self.sections["chef"] = {}
        self.successResultOf(self.agents.reload())
        self.assertEqual(self.told, 1)

    def test_an_unchanged_file_notifies_no_watcher(self) -> None:
        self.agents.watch(self.note)
        report = self.successResultOf(self.agents.reload())
        self.assertEqual((report.changed, self.told), ((), 0))

    def test_other_devices(self) -> None:
        self.agents.watch(self.note)
        self.devices = {"bb:*": "chef"}
        self.successResultOf(self.agents.reload())
        self.assertEqual(
            (self.told, self.agent().id, self.agent("bb:1").id), (1, "default", "chef")
        )

    def test_a_faulty_file_changes_nothing(self) -> None:
        self.agents.watch(self.note)
        former = self.agent()
        self.sections["chef"] = {"language": 7}
        report = self.successResultOf(self.agents.reload())
        self.assertIn("agents.chef.language: expected a string", report.error)
        self.assertIs(self.agent(), former)
        self.assertEqual((self.told, self.applied), (0, 0))
        self.assertEqual(self.log.count("agents were not reloaded"), 1)

    def test_providers_that_cannot_be_made_change_nothing(self) -> None:
        former = self.agent()
        self.sections["chef"] = {"language": "fr"}
        self.unusable = "providers.llm.x: no key"
        report = self.successResultOf(self.agents.reload())
        self.assertEqual(report.error, "providers.llm.x: no key")
        self.assertIs(self.agent(), former)

    def test_sections_that_need_a_restart(self) -> None:
        self.restart = ("http",)
        report = self.successResultOf(self.agents.reload())
        self.assertEqual(report.restart, ("http",))

    def test_a_watcher_that_fails_affects_no_other(self) -> None:
        def fail() -> None:
            raise RuntimeError("no")

        self.agents.watch(fail)
        self.agents.watch(self.note)
        self.sections["chef"] = {"language": "fr"}
        self.successResultOf(self.agents.reload())
        self.assertEqual(self.told, 1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_one_at_a_time(self) -> None:
        waiting: list[Deferred[None]] = []

        def slow(function: Any, *args: Any) -> Deferred[Any]:
            waiting.append(Deferred())
            return waiting[-1].addCallback(lambda _: function(*args))

        agents = FileAgents(book({}), self.reading, slow)
        first, second = agents.reload(), agents.reload()
        self.assertEqual(len(waiting), 1)
        waiting[0].callback(None)
        self.successResultOf(first)
        waiting[1].callback(None)
        self.successResultOf(second)
