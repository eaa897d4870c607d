"""Scripted dialogues: input and expected output. See docs/dialogues.md.

The same files are played against the doubles on virtual time, as tests, and against the configured
providers (``make eval``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta, Struct

from xiaozhi.device.answer import AnswerReport
from xiaozhi.wire.messages import ListenMode

DIRECTORY = Path(__file__).parent / "dialogues"

Seconds = Annotated[float, Meta(ge=0, le=600)]
Texts = str | tuple[str, ...]


class Expected(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Expected output of one step; absent members are not checked.

    :ivar heard: the server's transcript. A text is compared, ``/…/`` is a pattern that must be
        found, ignoring case; the same in the next two.
    :ivar answer: the sentences, joined by spaces; all members of a list must be found, in order.
    :ivar never: must not be found in the answer.
    :ivar tools: names of the called tools of device and server, in order.
    :ivar emotion: the last face.
    :ivar sound: whether there is sound.
    :ivar interrupted: whether the answer was cut off, so that not all of it was played.
    :ivar alert: whether the device received an alert.
    :ivar latency: seconds from the end of speech, or the text, to the first sound.
    """

    heard: str | None = None
    answer: Texts | None = None
    never: tuple[str, ...] = ()
    tools: tuple[str, ...] | None = None
    emotion: str | None = None
    sound: bool = True
    interrupted: bool = False
    alert: bool | None = None
    latency: Seconds | None = None


class Interruption(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An interruption ``after`` seconds of the answer, by one of the other members.

    :ivar abort: the button, or the wake word.
    :ivar expect: of the answer to the spoken or typed text.
    """

    after: Seconds
    abort: bool = False
    say: str = ""
    type: str = ""
    expect: Expected = Expected()

    def __post_init__(self) -> None:
        if [self.abort, bool(self.say), bool(self.type)].count(True) != 1:
            raise ValueError("needs one of abort, say and type")


class Step(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One action of the person.

    :ivar say: speech; ``type``: typed text; ``wake``: a wake word; ``wait``: seconds of silence.
    :ivar quiet: the server must not react.
    :ivar closed: the server closes the connection afterwards.
    """

    say: str = ""
    type: str = ""
    wake: str = ""
    wait: Seconds = 0.0
    quiet: bool = False
    closed: bool = False
    interrupt: Interruption | None = None
    expect: Expected = Expected()

    def __post_init__(self) -> None:
        if [bool(given) for given in (self.say, self.type, self.wake, self.wait)].count(True) != 1:
            raise ValueError("needs one of say, type, wake and wait")

    @property
    def told(self) -> str:
        """Describe the step for people."""
        for verb in ("say", "type", "wake"):
            if words := getattr(self, verb):
                return f"{verb} {words!r}"
        return f"wait {self.wait:g} s"


class Dialogue(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file.

    :ivar title: its subject.
    :ivar only: ``doubles``: it makes no sense with other providers.
    :ivar mode: the device's listening mode.
    :ivar doubles: settings of the doubles by kind; the recogniser's default transcript is the
        spoken text.
    :ivar session: settings of AI sessions, for the doubles.
    """

    title: str
    steps: Annotated[tuple[Step, ...], Meta(min_length=1)]
    only: Literal["", "doubles"] = ""
    mode: Literal["auto", "manual", "realtime"] = "auto"
    doubles: dict[str, dict[str, Any]] = {}
    session: dict[str, Any] = {}

    @property
    def listen_mode(self) -> ListenMode:
        return ListenMode(self.mode)

    @property
    def spoken(self) -> tuple[str, ...]:
        """All spoken texts, in order."""
        said = []
        for step in self.steps:
            said += [step.say] if step.say else []
            said += [step.interrupt.say] if step.interrupt and step.interrupt.say else []
        return tuple(said)


class BadDialogue(Exception):
    """A malformed file; the message names it and the position."""


def read(path: Path) -> Dialogue:
    """Read a file.

    :raises BadDialogue: it is malformed.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return msgspec.convert(content, Dialogue)
    except OSError as error:
        raise BadDialogue(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadDialogue(f"{path}: is not YAML: {error}") from error
    except msgspec.ValidationError as error:
        raise BadDialogue(f"{path}: {error}") from error


def files() -> list[Path]:
    """Return all files."""
    return sorted(DIRECTORY.glob("*.yaml"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one step.

    :ivar tools: called server tools, if known; the device's are in the answer.
    :ivar alerts: number of alerts at the device.
    """

    answer: AnswerReport
    tools: tuple[str, ...] | None
    alerts: int


def failures(expected: Expected, outcome: Outcome) -> Iterator[str]:
    """Return each unmet expectation as one line."""
    answer = outcome.answer
    if expected.heard is not None and not _found(expected.heard, answer.heard or ""):
        yield f"heard {answer.heard!r} instead of {expected.heard}"
    yield from _unsaid(expected, answer.text)
    for word in expected.never:
        if _found(word if word.startswith("/") else f"/{re.escape(word)}/", answer.text):
            yield f"{word} was said: {answer.text!r}"
    if expected.tools is not None:
        called = outcome.tools if outcome.tools is not None else _names(answer)
        if called != expected.tools:
            yield f"called {list(called)} instead of {list(expected.tools)}"
    if expected.emotion is not None and answer.emotion != expected.emotion:
        yield f"shows {answer.emotion} instead of {expected.emotion}"
    if expected.sound != bool(answer.packets):
        yield "there was sound" if answer.packets else "there was no sound"
    if answer.interrupted != expected.interrupted:
        yield "it was cut off" if answer.interrupted else "it was not cut off"
    if expected.alert is not None and expected.alert != bool(outcome.alerts):
        yield "there was an alert" if outcome.alerts else "there was no alert"
    if answer.tts_starts != answer.tts_stops:
        yield f"{answer.tts_starts} tts start and {answer.tts_stops} tts stop"
    if answer.dropped:
        yield f"{answer.dropped} packets that the device could not use"
    latency = answer.first_audio_latency
    if expected.latency is not None and (latency is None or latency > expected.latency):
        told = "never" if latency is None else f"after {latency:.3f} s"
        yield f"first sound {told}, not within {expected.latency:g} s"


def _unsaid(expected: Expected, said: str) -> Iterator[str]:
    wanted = expected.answer
    if wanted is None:
        return
    if isinstance(wanted, str):
        if not _found(wanted, said):
            yield f"said {said!r} instead of {wanted}"
        return
    at = 0
    for each in wanted:
        pattern = each[1:-1] if _is_pattern(each) else re.escape(each)
        found = re.compile(pattern, re.I).search(said, at)
        if found is None:
            yield f"{each} is not in {said!r}, or not in this order"
            return
        at = found.end()


def _found(wanted: str, text: str) -> bool:
    if _is_pattern(wanted):
        return re.search(wanted[1:-1], text, re.I) is not None
    return wanted == text


def _is_pattern(wanted: str) -> bool:
    return len(wanted) > 1 and wanted[0] == wanted[-1] == "/"


def _names(answer: AnswerReport) -> tuple[str, ...]:
    return tuple(tool.name for tool in answer.tools)
