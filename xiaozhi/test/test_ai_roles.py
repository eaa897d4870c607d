"""Who the assistant is."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.ai.roles import Roles, check_roles
from xiaozhi.ai.settings import DialogueSettings, RoleSettings, SessionSettings
from xiaozhi.errors import ConfigError
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

    def test_what_is_wrong_is_named(self) -> None:
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
            ({"dialogue": DialogueSettings(prompt="Hi.")}, r"session.dialogue.prompt: .*\{role\}"),
            (
                {"dialogue": DialogueSettings(prompt="{role} {mood}")},
                r"session.dialogue.prompt: there is no placeholder \{mood\}",
            ),
        ):
            with self.assertRaisesRegex(ConfigError, key):
                check_roles(settings(**changes))
