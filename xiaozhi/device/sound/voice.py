"""Speech for the microphone, from the offline synthesiser or wav files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool

from xiaozhi.audio import OpusDecoder, read_wav, resample, write_wav
from xiaozhi.base.errors import ProtocolError, ProviderError
from xiaozhi.device.errors import DeviceError
from xiaozhi.device.sound.microphone import SAMPLE_RATE
from xiaozhi.interfaces import ISynthesizer, Offload

T = TypeVar("T")


def thread_offload(reactor: Any) -> Offload:
    """Return an offload to the reactor's thread pool."""
    return cast(Offload, partial(deferToThreadPool, reactor, reactor.getThreadPool()))


@dataclass
class _Runtime:
    """A :class:`~xiaozhi.interfaces.ProviderRuntime`."""

    reactor: Any
    offload: Offload


class Voice:
    """Makes PCM for the microphone: s16le mono at 16 kHz.

    The synthesiser is a child process that starts with the first text.
    """

    def __init__(
        self,
        reactor: Any,
        offload: Offload,
        make: Callable[[_Runtime], ISynthesizer] | None = None,
    ) -> None:
        self._runtime = _Runtime(reactor, offload)
        self._make = make or _espeak
        self._synthesizer: ISynthesizer | None = None

    async def of_text(self, text: str, language: str = "") -> bytes:
        """Synthesise a text.

        :raises XiaozhiError: the synthesiser is not installed, or failed.
        """
        if self._synthesizer is None:
            self._synthesizer = self._make(self._runtime)
        pieces = []
        async with aclosing(self._synthesizer.synthesize(text, language)) as stream:
            async for piece in stream:
                assert isinstance(piece, bytes), "one synthesiser has one format"
                pieces.append(piece)
        rate: int = self._synthesizer.sound.sample_rate
        return await self._runtime.offload(resample, b"".join(pieces), rate, SAMPLE_RATE)

    async def of_file(self, path: str) -> bytes:
        """Read a wav file.

        :raises OSError: the file cannot be read.
        :raises XiaozhiError: it is not a wav file.
        """
        return await self._runtime.offload(_load, path)

    def close(self) -> Deferred[None]:
        """End the synthesiser's process."""
        if self._synthesizer is None:
            return succeed(None)
        return self._synthesizer.close()


def save(path: str, packets: tuple[bytes, ...], sample_rate: int) -> None:
    """Write an answer as a wav file, without packets that are not Opus.

    Blocks: run it in a thread.
    """
    decoder = OpusDecoder(sample_rate)
    pcm = bytearray()
    for packet in packets:
        try:
            pcm += decoder.decode(packet)
        except ProtocolError:
            continue
    write_wav(path, bytes(pcm), sample_rate)


def _load(path: str) -> bytes:
    try:
        pcm, rate = read_wav(path)
    except ProviderError as error:
        raise DeviceError(error.code, f"{path}: {error.message}") from None
    return pcm if rate == SAMPLE_RATE else resample(pcm, rate, SAMPLE_RATE)


def _espeak(runtime: _Runtime) -> ISynthesizer:
    from xiaozhi.providers.offline.espeak import EspeakSettings, EspeakSynthesizer

    return EspeakSynthesizer.make(EspeakSettings(), runtime)
