"""Who the assistant is for one device, and the system prompt that tells it so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from xiaozhi.ai.prompt import PLACEHOLDERS, Prompt, facts
from xiaozhi.ai.settings import RoleSettings, SessionSettings
from xiaozhi.errors import ConfigError
from xiaozhi.wire.messages import Device

_OF_ROLES = tuple(name for name in PLACEHOLDERS if name != "role")
_KEY = "session.dialogue.prompt"


def check_roles(settings: SessionSettings) -> None:
    """:raises ConfigError: a template that cannot be filled in, or a role that is not
    there, by its key."""
    prompt = Prompt(settings.dialogue.prompt, _KEY)
    if len(settings.roles) > 1 and "role" not in prompt.names:
        raise ConfigError(f"{_KEY}: needs {{role}}, or session.roles would change nothing")
    for name, role in settings.roles.items():
        Prompt(role.prompt, f"session.roles.{name}.prompt", _OF_ROLES)
    wanted = {"session.role": settings.role}
    wanted |= {f"session.device_roles.{each}": role for each, role in settings.device_roles.items()}
    for key, name in wanted.items():
        if name not in settings.roles:
            there = ", ".join(settings.roles) or "none"
            raise ConfigError(f"{key}: there is no role {name}; session.roles has {there}")


class Roles:
    """Who the assistant is in one session.

    :param seconds: wall clock: seconds since the epoch.
    :ivar name: of the role it has.
    """

    def __init__(
        self, settings: SessionSettings, device: Device, seconds: Callable[[], float]
    ) -> None:
        self.name = settings.device_roles.get(device.device_id, settings.role)
        self._settings = settings
        self._device = device
        self._seconds = seconds
        self._prompt = Prompt(settings.dialogue.prompt, _KEY)

    @property
    def role(self) -> RoleSettings:
        """The role it has."""
        return self._settings.roles[self.name]

    def prompt(self, language: str) -> str:
        """The system prompt as it is now.

        :param language: BCP 47, that the person speaks.
        """
        now = datetime.fromtimestamp(self._seconds()).astimezone()
        values = facts(now, language, self._device, self._settings.dialogue.location)
        own = Prompt(self.role.prompt, f"session.roles.{self.name}.prompt", _OF_ROLES)
        return self._prompt.filled(values | {"role": own.filled(values)})
