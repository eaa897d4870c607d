"""Capabilities must be declared truthfully: checks that a provider does what it declares.

Each function drives a provider through an example that shows the ability and returns whether
it was seen. :func:`declared_by` finds the declaration.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

from twisted.plugin import getPlugins

from xiaozhi import plugins
from xiaozhi.base.capabilities import Capabilities
from xiaozhi.base.values import Picture, Role, SoundFormat, ToolCall, ToolSpec, Utterance
from xiaozhi.interfaces import IProviderMaker
from xiaozhi.providers.kit.maker import ProviderMaker


def maker_of(provider: Any) -> ProviderMaker:
    """Find the maker of a shipped provider.

    :raises LookupError: no plugin makes its class.
    """
    target = f"{type(provider).__module__}:{type(provider).__qualname__}"
    for maker in getPlugins(IProviderMaker, plugins):
        if isinstance(maker, ProviderMaker) and maker.target == target:
            return maker
    raise LookupError(f"no plugin makes {target}")


def declared_by(provider: Any, settings: Any) -> Capabilities:
    """Return the capabilities that a shipped provider's maker declares."""
    return maker_of(provider).capabilities(settings)


async def _at_once(told: list[str]) -> None:
    """Wait for nothing: interim results arrive while sound is fed."""


async def gives_interim(
    provider: Any,
    pcm: bytes,
    settled: Callable[[list[str]], Awaitable[None]] = _at_once,
) -> bool:
    """Recognise speech.

    :param pcm: some words, 16 kHz.
    :param settled: waits, before the end of the utterance, until there is a result in the
        list or none is to be expected.
    """
    told: list[str] = []
    recognition = provider.recognition(told.append)
    for at in range(0, len(pcm), 1920):
        recognition.feed(pcm[at : at + 1920])
    await settled(told)
    await recognition.finish()
    return bool(told)


async def calls_tools(provider: Any, question: str, tool: ToolSpec) -> bool:
    """Ask a question that needs the tool."""
    dialogue = [Utterance(Role.USER, question)]
    async with aclosing(provider.reply(dialogue, [tool])) as deltas:
        return any([isinstance(delta, ToolCall) async for delta in deltas])


async def sample_rates(provider: Any, text: str) -> set[int]:
    """Speak, and return the sample rates of the sound."""
    rates = {provider.sound.sample_rate}
    async with aclosing(provider.synthesize(text, "en")) as pieces:
        async for piece in pieces:
            if isinstance(piece, SoundFormat):
                rates.add(piece.sample_rate)
    return rates


async def sees(provider: Any, one: Picture, other: Picture) -> bool:
    """Ask about two pictures of the same size and format; compare the answers."""
    first, second = [
        str(await provider.describe(picture, "What is this?")) for picture in (one, other)
    ]
    return first != second
