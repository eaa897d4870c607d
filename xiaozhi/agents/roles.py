"""Roles of an agent in one session, and the system prompt."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from datetime import datetime
from typing import Any

from zope.interface import implementer

from xiaozhi.agents.prompt import PLACEHOLDERS, Prompt, facts
from xiaozhi.agents.settings import RoleSettings, SessionSettings
from xiaozhi.base.errors import ConfigError, ToolError
from xiaozhi.base.values import ToolSpec
from xiaozhi.interfaces import ITool
from xiaozhi.languages.scripts import script_of
from xiaozhi.wire.messages import Device

_OF_ROLES = tuple(name for name in PLACEHOLDERS if name != "role")
_SESSION = "session"


def check_prompt(prompt: str, key: str) -> None:
    """Check the template of a role.

    :raises ConfigError: the template is invalid.
    """
    Prompt(prompt, key, _OF_ROLES)


def check_roles(settings: SessionSettings, key: str = _SESSION) -> None:
    """Check the templates and roles of a session.

    :param key: key of their section, for errors.
    :raises ConfigError: a template is invalid, or a role does not exist.
    """
    template = f"{key}.dialogue.prompt"
    prompt = Prompt(settings.dialogue.prompt, template)
    if len(settings.roles) > 1 and "role" not in prompt.names:
        raise ConfigError(f"{template}: needs {{role}}, or {key}.roles would change nothing")
    called: dict[str, str] = {}
    for name, role in settings.roles.items():
        for each in (name, *role.aliases):
            other = called.setdefault(_bare(each), name)
            if not _bare(each) or other != name:
                reason = f"{other} has this name, too" if _bare(each) else "is not a name"
                raise ConfigError(f"{key}.roles.{name}: {each!r}: {reason}")
        check_prompt(role.prompt, f"{key}.roles.{name}.prompt")
    wanted = {f"{key}.role": settings.role}
    wanted |= {f"{key}.device_roles.{each}": role for each, role in settings.device_roles.items()}
    for where, name in wanted.items():
        if name not in settings.roles:
            there = ", ".join(settings.roles) or "none"
            raise ConfigError(f"{where}: there is no role {name}; {key}.roles has {there}")


class Roles:
    """The current role in one session.

    :param seconds: wall clock: seconds since the epoch.
    :param keep: receives the name of a role that a person has asked for.
    :ivar name: name of the current role.
    """

    def __init__(
        self,
        settings: SessionSettings,
        device: Device,
        seconds: Callable[[], float],
        keep: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = settings.device_roles.get(device.device_id, settings.role)
        self._keep = keep
        self._chosen = False
        self._settings = settings
        self._device = device
        self._seconds = seconds
        self._prompt = Prompt(settings.dialogue.prompt, f"{_SESSION}.dialogue.prompt")
        self._own: tuple[str, Prompt] | None = None  # the current role's, with its name

    @property
    def role(self) -> RoleSettings:
        """The current role."""
        return self._settings.roles[self.name]

    @property
    def greetings(self) -> tuple[str, ...]:
        """Greetings for a wake word."""
        return self.role.greetings or self._settings.wake.greetings

    @property
    def tools(self) -> list[ITool]:
        """The tool with which the model changes the role; none if there is one role."""
        return [SwitchRole(self)] if len(self._settings.roles) > 1 else []

    def recalled(self, name: str) -> None:
        """Restore a role of an earlier session, if it still exists."""
        if name in self._settings.roles and not self._chosen:
            self.name = name

    def switch(self, wanted: str) -> str:
        """Switch to the role that the words name, from the next request to the model on.

        :param wanted: a role's name or alias, or a sentence that contains one.
        :return: the role's name.
        :raises ToolError: no role has such a name.
        """
        name = self._named(wanted)
        if name is None:
            there = ", ".join(self._settings.roles)
            raise ToolError("unknown_role", f"there is no such role; the roles are {there}")
        self._chosen = True
        if name != self.name:
            self.name = name
            self._keep(name)
        return name

    def _named(self, wanted: str) -> str | None:
        words = f" {_bare(wanted)} "
        known = {
            _bare(called): name
            for name, role in self._settings.roles.items()
            for called in (*role.aliases, name)
        }
        # The longest name first: "space pirate" before "pirate".
        for called in sorted(known, key=len, reverse=True):
            if called and (called if _unspaced(called) else f" {called} ") in words:
                return known[called]
        return None

    def described(self) -> str:
        """Describe the roles for the model."""
        return "; ".join(_described(*each) for each in self._settings.roles.items())

    @property
    def names(self) -> list[str]:
        """The names of all roles."""
        return list(self._settings.roles)

    def prompt(self, language: str) -> str:
        """Return the current system prompt.

        :param language: BCP 47, of the person's words.
        """
        now = datetime.fromtimestamp(self._seconds()).astimezone()
        values = facts(now, language, self._device, self._settings.dialogue.location)
        if self._own is None or self._own[0] != self.name:
            own = Prompt(self.role.prompt, f"session.roles.{self.name}.prompt", _OF_ROLES)
            self._own = self.name, own
        return self._prompt.filled(values | {"role": self._own[1].filled(values)})


@implementer(ITool)
class SwitchRole:
    """Tool that changes the role because the person asks for it."""

    limit: float | None = None
    lane = "role"
    interruptible = True

    def __init__(self, roles: Roles) -> None:
        self._roles = roles
        role = {"type": "string", "enum": roles.names, "description": "the role's name"}
        self.spec = ToolSpec(
            "switch_role",
            "Change who you are, when the person asks for it; you are that from your next"
            f" sentence on. Roles: {roles.described()}",
            {"type": "object", "properties": {"role": role}, "required": ["role"]},
        )

    async def call(self, arguments: dict[str, Any]) -> str:
        wanted = arguments.get("role")
        if not isinstance(wanted, str):
            raise ToolError("bad_arguments", "switch_role: role is not a text")
        return json.dumps({"role": self._roles.switch(wanted)}, ensure_ascii=False)


def _described(name: str, role: RoleSettings) -> str:
    called = f", also called {', '.join(role.aliases)}" if role.aliases else ""
    return f"{name}{called}{': ' if role.description else ''}{role.description}"


def _bare(words: str) -> str:
    """Return words for comparison: without case and punctuation."""
    plain = unicodedata.normalize("NFKC", words).casefold()
    return " ".join("".join(c if c.isalnum() else " " for c in plain).split())


def _unspaced(words: str) -> bool:
    """Return whether the script has no spaces between words."""
    return any((script := script_of(char)) is not None and not script.spaced for char in words)
