"""Needs of an agent's settings that its providers must meet."""

from __future__ import annotations

from xiaozhi.agents.settings import Detector, SessionSettings
from xiaozhi.base.capabilities import Needs


def needs_of(settings: SessionSettings, key: str = "session", tools: str = "") -> Needs:
    """Return the capabilities that the settings of a session need.

    :param key: key of the settings in the configuration, for messages.
    :param tools: key of a setting that needs tool calls; empty: none.
    """
    by_text = settings.listen.detector is Detector.TEXT
    return Needs(
        interim=f"{key}.listen.detector: text" if by_text else "",
        tools=tools,
    )
