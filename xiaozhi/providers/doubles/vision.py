"""Double of a vision model: scripted descriptions."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from twisted.internet.defer import Deferred
from zope.interface import implementer

from xiaozhi.base.values import Picture
from xiaozhi.interfaces import IProvider, IVisionModel
from xiaozhi.providers.doubles.base import Double, DoubleSettings


class ScriptedVisionSettings(DoubleSettings, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Settings of :class:`ScriptedVision`.

    :ivar answers: descriptions in turn, then from the start again.
    """

    answers: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("A picture.",)


@implementer(IVisionModel, IProvider)
class ScriptedVision(Double):
    """Describes any picture with the next answer."""

    Settings: ClassVar[type[msgspec.Struct]] = ScriptedVisionSettings
    _next = 0

    def describe(self, picture: Picture, question: str) -> Deferred[str]:
        """See :class:`IVisionModel`."""

        async def answer() -> str:
            await self._begin(question)
            answers: tuple[str, ...] = self._settings.answers
            self._next += 1
            return answers[(self._next - 1) % len(answers)]

        return Deferred.fromCoroutine(answer())
