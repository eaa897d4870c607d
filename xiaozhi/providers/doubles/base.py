"""Common part of the doubles: delays, failures and injected faults.

Delays run on the runtime's reactor, so on virtual time where that is a ``Clock``. With
``fail`` every call fails with that code after its delay; with ``hang`` it never answers;
``trouble`` does this to some calls only.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater

from xiaozhi.base.errors import ProviderError
from xiaozhi.interfaces import ProviderRuntime

Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]
_D = TypeVar("_D", bound="Double")


class InjectedFault(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A fault of some calls only.

    :ivar when: selects calls whose text contains this: the transcript, the person's last
        words, the text to speak, the question about a picture.
    :ivar fail: and ``retryable``, ``hang``: see :class:`DoubleSettings`.
    :ivar crawl: seconds before the answer, and between two words or tenths of a second
        of sound, in addition to the usual ones.
    """

    when: str
    fail: str = ""
    retryable: bool = False
    hang: bool = False
    crawl: Seconds = 0.0


_NO_TROUBLE = InjectedFault(when="")


class DoubleSettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Settings of all doubles.

    :ivar delay: seconds before an answer begins.
    :ivar fail: code of the error that every call ends with; empty: none.
    :ivar retryable: whether that error is retryable.
    :ivar hang: never answer.
    :ivar trouble: faults of some calls; the first that matches applies.
    """

    delay: Seconds = 0.0
    fail: str = ""
    retryable: bool = False
    hang: bool = False
    trouble: tuple[InjectedFault, ...] = ()


class Double:
    """A provider that waits, hangs or fails as its settings say."""

    def __init__(self, settings: Any, clock: Any) -> None:
        self._settings = settings
        self._clock = clock
        self._closed = False

    @classmethod
    def make(cls: type[_D], settings: Any, runtime: ProviderRuntime) -> _D:
        """Make the provider; it uses nothing of the process but the clock."""
        return cls(settings, runtime.reactor)

    def close(self) -> Deferred[None]:
        """Fail later calls with ``closed``."""
        self._closed = True
        return succeed(None)

    async def _begin(self, about: str) -> float:
        """Wait, hang or fail, as the settings say.

        :param about: the call's text, which selects injected faults.
        :return: seconds to wait between the pieces of the answer.
        """
        settings = self._settings
        trouble = next((one for one in settings.trouble if one.when in about), _NO_TROUBLE)
        if settings.hang or trouble.hang:
            await Deferred()
        await self._sleep(settings.delay + trouble.crawl)
        if self._closed:
            raise ProviderError("closed", "the provider was closed", retryable=False)
        for one in (settings, trouble):
            if one.fail:
                raise ProviderError(
                    one.fail, "told to fail by configuration", retryable=one.retryable
                )
        return trouble.crawl

    async def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            await deferLater(self._clock, seconds)
