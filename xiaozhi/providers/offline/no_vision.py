"""Stand-in for a vision model that is not configured."""

from __future__ import annotations

import re
from typing import ClassVar, Self

import msgspec
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from xiaozhi.base.values import Picture
from xiaozhi.interfaces import IVisionModel, ProviderRuntime

_CHINESE = re.compile(r"[\u3400-\u9fff]")


class StandInSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """No settings."""


@implementer(IVisionModel)
class StandInVision:
    """Describes the picture's format and says that no vision model is configured."""

    Settings: ClassVar[type[msgspec.Struct]] = StandInSettings

    @classmethod
    def make(cls, settings: StandInSettings, runtime: ProviderRuntime) -> Self:
        return cls()

    def close(self) -> Deferred[None]:
        """Do nothing: there is nothing to release."""
        return succeed(None)

    def describe(self, picture: Picture, question: str) -> Deferred[str]:
        """Answer in Chinese if the question is Chinese, otherwise in English."""
        kind = picture.media_type.rpartition("/")[2].upper()
        size = len(picture.data)
        if _CHINESE.search(question):
            return succeed(
                f"我收到了一张{kind}图片，宽{picture.width}像素，高{picture.height}像素，"
                f"共{size}字节。不过还没有配置视觉模型，所以我看不懂它。"
            )
        return succeed(
            f"I received a {kind} picture, {picture.width} by {picture.height} pixels, "
            f"{size} bytes. No vision model is configured, so I cannot tell what it shows."
        )
