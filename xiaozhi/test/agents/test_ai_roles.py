"""Roles of an agent."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xiaozhi.agents.roles import Roles, check_roles
from xiaozhi.agents.settings import DialogueSettings, RoleSettings, SessionSettings, WakeSettings
from xiaozhi.base.errors import ConfigError, ToolError
from xiaozhi.base.toolresult import ToolResult
from xiaozhi.interfaces import ITool
from xiaozhi.wire.messages import Device

PIRATE = RoleSettings(
    prompt="You are Flint, a pirate[ from {location}].", aliases=("captain", "海盗")
)
POET = RoleSettings(prompt="You are a poet.", description="writes verses")
CAST = {"pirate": PIRATE, "poet": POET}


def settings(**changes: Any) -> SessionSettings:
    return SessionSettings(**{"roles": CAST, "role": "poet"} | changes)


class RolesTests(SynchronousTestCase):
    def prompt(self, device_id: str = "d", **changes: Any) -> str:
        found = settings(**changes)
        check_roles(found)
        return Roles(found, Device(device_id, "c", "Ann"), lambda: 0.0).prompt("en")

    def test_its_prompt_fills_in_the_role(self) -> None:
        self.assertTrue(self.prompt().startswith("You are a poet. Answer in"))

    def test_with_placeholders_of_its_own(self) -> None:
        dialogue = DialogueSettings(prompt="{role}", location="Ulm")
        self.assertEqual(
            self.prompt(role="pirate", dialogue=dialogue), "You are Flint, a pirate from Ulm."
        )

    def test_some_devices_have_another(self) -> None:
        other = {"device_roles": {"d2": "pirate"}}
        self.assertTrue(self.prompt("d2", **other).startswith("You are Flint, a pirate."))
        self.assertTrue(self.prompt("d", **other).startswith("You are a poet."))

    def test_errors_name_the_key(self) -> None:
        check_roles(SessionSettings())
        for changes, key in (
            ({"role": "cook"}, "session.role: there is no role cook; session.roles has pirate, p"),
            ({"device_roles": {"aa:bb": "cook"}}, "session.device_roles.aa:bb: there is no role"),
            (
                {"roles": {"poet": RoleSettings(prompt="Be {mood}")}},
                r"session.roles.poet.prompt: there is no placeholder \{mood\}",
            ),
            (
                {"roles": {"poet": RoleSettings(prompt="Be {role}")}},
                r"session.roles.poet.prompt: there is no placeholder \{role\}",
            ),
            (
                {"roles": CAST | {"Captain!": RoleSettings(prompt="Hi.")}},
                "session.roles.Captain!: 'Captain!': pirate has this name, too",
            ),
            (
                {"roles": CAST | {"x": RoleSettings(prompt="Hi.", aliases=("…",))}},
                "session.roles.x: '…': is not a name",
            ),
            ({"dialogue": DialogueSettings(prompt="Hi.")}, r"session.dialogue.prompt: .*\{role\}"),
            (
                {"dialogue": DialogueSettings(prompt="{role} {mood}")},
                r"session.dialogue.prompt: there is no placeholder \{mood\}",
            ),
        ):
            with self.assertRaisesRegex(ConfigError, key):
                check_roles(settings(**changes))


class SwitchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.kept: list[str] = []

    def roles(self, **changes: Any) -> Roles:
        return Roles(settings(**changes), Device("d", "c", "Ann"), lambda: 0.0, self.kept.append)

    def test_by_any_of_its_names(self) -> None:
        cast = CAST | {"space pirate": RoleSettings(prompt="You are from space.")}
        for wanted, name in (
            ("pirate", "pirate"),
            ("Poet", "poet"),
            ("Captain", "pirate"),
            ("please be a pirate!", "pirate"),
            ("be a space-pirate", "space pirate"),
            ("请你扮演海盗吧", "pirate"),
        ):
            roles = self.roles(roles=cast)
            self.assertEqual((roles.switch(wanted), roles.name), (name, name), wanted)

    def test_one_there_is_not(self) -> None:
        roles = self.roles()
        for wanted in ("cook", "", "pirates", "…"):
            error = self.assertRaises(ToolError, roles.switch, wanted)
            self.assertEqual(error.message, "there is no such role; the roles are pirate, poet")
        self.assertEqual((roles.name, self.kept), ("poet", []))

    def test_is_kept_once(self) -> None:
        roles = self.roles()
        for _ in range(2):
            roles.switch("pirate")
        self.assertEqual(self.kept, ["pirate"])
        self.assertTrue(roles.prompt("en").startswith("You are Flint"))

    def test_a_requested_role_overrides_the_configured_one(self) -> None:
        roles = self.roles(device_roles={"d": "poet"})
        roles.recalled("pirate")
        self.assertEqual(roles.name, "pirate")
        roles.recalled("gone from the configuration")
        self.assertEqual(roles.name, "pirate")
        roles.switch("poet")
        roles.recalled("pirate")
        self.assertEqual(roles.name, "poet", "asked for before the store had answered")

    def test_the_model_gets_the_roles(self) -> None:
        [tool] = self.roles().tools
        verifyObject(ITool, tool)
        described = tool.spec.description
        self.assertIn("pirate, also called captain, 海盗; poet: writes verses", described)
        self.assertEqual(tool.spec.parameters["properties"]["role"]["enum"], ["pirate", "poet"])

        async def call(role: object) -> str | ToolResult:
            return await tool.call({"role": role})

        result = self.successResultOf(Deferred.fromCoroutine(call("captain")))
        self.assertEqual(result, '{"role": "pirate"}')
        self.failureResultOf(Deferred.fromCoroutine(call(1)), ToolError)

    def test_with_one_role_there_is_nothing_to_change(self) -> None:
        self.assertEqual(self.roles(roles={"poet": POET}).tools, [])

    def test_greets_in_its_own_way(self) -> None:
        greeting = RoleSettings(prompt="Hi.", greeting=("Ahoy!", " "))
        roles = self.roles(
            roles=CAST | {"sailor": greeting}, wake=WakeSettings(greeting="I am here.")
        )
        self.assertEqual(roles.greetings, ("I am here.",))
        roles.switch("sailor")
        self.assertEqual(roles.greetings, ("Ahoy!",))
