"""Offline recognition of the sentences of a grammar, with pocketsphinx."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec
from twisted.internet.defer import CancelledError, Deferred, DeferredList, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi.base.errors import ConfigError
from xiaozhi.base.values import Transcript
from xiaozhi.interfaces import IPreparable, IProvider, IRecognition, IRecognizer, ProviderRuntime
from xiaozhi.providers.kit.process.request import WorkRequest
from xiaozhi.providers.kit.process.worker import Worker, WorkerOptions
from xiaozhi.providers.offline.sphinx_child import cut_dictionary, grammar_words

#: Bytes per second of input.
_BYTE_RATE = 32000

#: The most bytes of a grammar, which is passed as an argument.
_MAX_GRAMMAR = 100_000


class SphinxSettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Settings of the offline recogniser.

    :ivar grammar: path of a JSGF grammar; none: that of the intents' phrase book.
    :ivar processes: child processes; each uses at most one core.
    :ivar decoders: utterances that a process decodes at once, about 20 MB each.
    :ivar threshold: score per frame below which speech counts as outside the grammar; 0 is a
        perfect match, lower values accept more.
    :ivar max_seconds: sound of one utterance; the rest is dropped.
    :ivar timeout: seconds that an utterance may take after its end.
    """

    grammar: str | None = None
    processes: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    decoders: Annotated[int, msgspec.Meta(ge=1, le=64)] = 2
    threshold: Annotated[float, msgspec.Meta(ge=-100, le=0)] = -14.0
    max_seconds: Annotated[float, msgspec.Meta(gt=0, le=300)] = 30.0
    timeout: Annotated[float, msgspec.Meta(gt=0, le=600)] = 15.0


@implementer(IRecognizer, IProvider, IPreparable)
class SphinxRecognizer:
    """Recognises the sentences of a grammar; the transcript of anything else is empty.

    Numbers are written as words. Sound is decoded as it arrives.
    """

    Settings: ClassVar[type[msgspec.Struct]] = SphinxSettings

    def __init__(self, workers: Sequence[Worker], max_seconds: float) -> None:
        self._workers = workers
        self._max_bytes = int(max_seconds * _BYTE_RATE)

    @classmethod
    def make(cls, settings: SphinxSettings, runtime: ProviderRuntime) -> SphinxRecognizer:
        """Make the recogniser.

        :raises ConfigError: pocketsphinx or the pronunciation of a word is missing.
        """
        package = find_spec("pocketsphinx")
        if package is None or not package.submodule_search_locations:
            raise ConfigError(
                "pocketsphinx is not installed; in the checkout: pip install '.[offline]'"
            )
        model = Path(package.submodule_search_locations[0]) / "model" / "en-us"
        grammar = _grammar(settings.grammar)
        _check_words(grammar, model)
        arguments = json.dumps(
            {
                "grammar": grammar,
                "model": str(model),
                "decoders": settings.decoders,
                "threshold": settings.threshold,
            }
        )
        # Silent utterances cost nothing, so many may be open in the child.
        options = WorkerOptions(concurrency=256, waiting=64, timeout=settings.timeout)
        module = "xiaozhi.providers.offline.sphinx_child"
        workers = [
            Worker(runtime.reactor, module, [arguments], options) for _ in range(settings.processes)
        ]
        return cls(workers, settings.max_seconds)

    def recognition(self, interim: Callable[[str], None] | None = None) -> IRecognition:
        """See :class:`IRecognizer`."""
        worker = min(self._workers, key=lambda w: w.load)
        return _SphinxRecognition(worker, self._max_bytes, interim)

    def prepare(self) -> None:
        """See :class:`IPreparable`."""
        for worker in self._workers:
            worker.prepare()

    def close(self) -> Deferred[None]:
        """See :class:`IProvider`."""
        closing = DeferredList([worker.close() for worker in self._workers])
        return closing.addCallback(lambda _: None)

    @property
    def workers(self) -> Sequence[Worker]:
        """The child processes."""
        return self._workers


@implementer(IRecognition)
class _SphinxRecognition:
    _log = Logger()

    def __init__(
        self, worker: Worker, max_bytes: int, interim: Callable[[str], None] | None
    ) -> None:
        self._worker = worker
        self._interim = interim
        self._left = max_bytes
        self._request: WorkRequest | None = None
        self._cancelled = False

    def feed(self, pcm: bytes) -> None:
        if self._cancelled or not pcm:
            return
        if self._left <= 0:
            return
        if len(pcm) >= self._left:
            self._log.warn("an utterance is too long; the rest is dropped")
            pcm = pcm[: self._left]
        self._left -= len(pcm)
        if self._request is None:
            self._request = self._worker.request(b"", on_piece=self._understood)
        self._request.send(pcm)

    def _understood(self, text: bytes) -> None:
        if self._interim is not None:
            self._interim(text.decode())

    def finish(self) -> Deferred[Transcript]:
        self._interim = None
        if self._cancelled:
            return fail(CancelledError())
        if self._request is None:
            return succeed(Transcript("", "en"))
        self._request.end()
        return self._request.result().addCallback(
            lambda body: Transcript(json.loads(body)["text"], "en")
        )

    def cancel(self) -> None:
        self._interim = None
        self._cancelled = True
        if self._request is not None:
            self._request.cancel()


def _grammar(path: str | None) -> str:
    if path is None:
        from xiaozhi.providers.offline.intents.grammar import jsgf

        return jsgf("en")
    try:
        grammar = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the grammar {path} cannot be read: {error}") from error
    if len(grammar.encode()) > _MAX_GRAMMAR:
        raise ConfigError(f"the grammar {path} is longer than {_MAX_GRAMMAR} bytes")
    return grammar


def _check_words(grammar: str, model: Path) -> None:
    words = grammar_words(grammar)
    if not words:
        raise ConfigError("the grammar has no words")
    with open(model / "cmudict-en-us.dict", encoding="utf-8") as lines:
        unknown = words - cut_dictionary(lines, words).keys()
    if unknown:
        raise ConfigError(
            "the grammar has words without a known pronunciation: " + ", ".join(sorted(unknown))
        )
