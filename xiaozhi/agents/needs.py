"""Needs of an agent's settings that its providers must meet."""

from __future__ import annotations

from xiaozhi.agents.settings import Detector, SessionSettings
from xiaozhi.base.capabilities import Needs


def needs_of(settings: SessionSettings, key: str = "session", tools: bool = False) -> Needs:
    """Find the abilities that the settings of a session rely on.

    :param key: of the settings in the configuration, for messages.
    :param tools: whether the agent names tools that it must be able to call.
    """
    by_text = settings.listen.detector is Detector.TEXT
    return Needs(
        interim=f"{key}.listen.detector: text" if by_text else "",
        tools=f"{key}.tools" if tools else "",
    )
