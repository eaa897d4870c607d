"""Output of the command: text for people, or one JSON object per line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, fields
from itertools import zip_longest
from typing import Any, Protocol, TextIO

from xiaozhi.base.errors import XiaozhiError
from xiaozhi.device import events as e
from xiaozhi.device.answer import AnswerReport
from xiaozhi.device.client import Opened
from xiaozhi.device.network.ota import Boot, DeviceEndpoint
from xiaozhi.device.replay import AnswerLog, describe
from xiaozhi.runtime.console import is_unicode


class TalkReport(Protocol):
    """Receives the progress of the command, in order."""

    def booted(self, url: str, boot: Boot) -> None: ...

    def opened(self, endpoint: DeviceEndpoint, opened: Opened) -> None: ...

    def said(self, text: str, seconds: float) -> None: ...

    def event(self, event: e.Event) -> None: ...

    def answered(self, text: str, answer: AnswerReport, saved: str) -> None: ...

    def replayed(self, at: float, text: str) -> None: ...

    def compared(self, path: str, missing: int, then: AnswerLog, now: AnswerLog) -> None: ...

    def failed(self, error: XiaozhiError) -> None: ...


def ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


class HumanReport:
    """Prints one line per fact, in two columns."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._online = False

    def _line(self, name: str, text: str) -> None:
        print(f"  {name:<9} {text}", file=self._out, flush=True)

    def booted(self, url: str, boot: Boot) -> None:
        if boot.endpoint is None:
            self._line("boot", f"{url}: not activated; code {boot.activation}")
        else:
            self._line("boot", f"{url} → {boot.endpoint.address}, framing {boot.endpoint.version}")

    def opened(self, endpoint: DeviceEndpoint, opened: Opened) -> None:
        self._online = True
        times = f"connected in {ms(opened.upgrade):g} ms, hello in {ms(opened.hello):g} ms"
        self._line("online", f"{endpoint.address}: {times}")

    def said(self, text: str, seconds: float) -> None:
        spoken = f"  ({seconds:.1f} s of speech)" if seconds else ""
        print(f"> {text}{spoken}", file=self._out, flush=True)

    def event(self, event: e.Event) -> None:
        match event:
            case e.Heard(text):
                self._line("heard", text)
            case e.Sentence(text):
                self._line("answer", text)
            case e.ToolCalled(name, arguments, result, failed):
                self._line("tool", f"{name} {arguments} {'failed:' if failed else '→'} {result}")
            case e.Alerted(status, message, _):
                self._line("alert", f"{status}: {message}")
            case e.ServerError(code, message):
                self._line("error", f"{message} [{code}]")
            case e.Trouble(code, message) if code != "audio_dropped":
                self._line("trouble", f"{message} [{code}]")
            case e.Disconnected(code, reason) if self._online:
                self._online = False
                self._line("offline", f"{code} {reason}".rstrip())

    def answered(self, text: str, answer: AnswerReport, saved: str) -> None:
        if answer.first_audio_latency is None:
            self._line("sound", "none")
            return
        gaps = "no gaps"
        if answer.gaps:
            gaps = f"{len(answer.gaps)} gaps, the longest {max(answer.gaps):.0f} ms"
        lost = f", {answer.dropped} packets lost" if answer.dropped else ""
        self._line(
            "sound",
            f"{answer.audio_ms / 1000:.2f} s in {len(answer.packets)} packets, the first"
            f" {ms(answer.first_audio_latency):g} ms after the end of speech, {gaps}{lost}",
        )
        if saved:
            self._line("saved", saved)

    def replayed(self, at: float, text: str) -> None:
        self._line(f"{at:.3f}", text)

    def compared(self, path: str, missing: int, then: AnswerLog, now: AnswerLog) -> None:
        print(f"> {path}", file=self._out, flush=True)
        if missing:
            self._line("missing", f"{missing} messages are not in the recording")
        for number, (old, new) in enumerate(zip_longest(then.turns, now.turns), 1):
            self._line(f"turn {number}", describe(old))
            self._line("now", describe(new))

    def failed(self, error: XiaozhiError) -> None:
        self._line("failed", str(error))


class JsonReport:
    """Prints one JSON event per line, with ``at`` in seconds since the start.

    Packets are not printed; ``answer`` has their number.
    """

    def __init__(self, out: TextIO, now: Callable[[], float]) -> None:
        self._out = out
        # A stream's own escapes for unencodable characters are not valid JSON.
        self._ascii = not is_unicode(out)
        self._now = now
        self._began = now()

    def _line(self, name: str, /, **members: Any) -> None:
        at = round(self._now() - self._began, 4)
        whole = {"at": at, "event": name} | members
        print(json.dumps(whole, ensure_ascii=self._ascii), file=self._out, flush=True)

    def booted(self, url: str, boot: Boot) -> None:
        # Never print the token.
        endpoint = boot.endpoint
        self._line(
            "boot",
            ota=url,
            url=endpoint.address if endpoint else None,
            framing=endpoint.version if endpoint else None,
            activation=boot.activation,
        )

    def opened(self, endpoint: DeviceEndpoint, opened: Opened) -> None:
        self._line(
            "opened",
            url=endpoint.address,
            upgrade_ms=ms(opened.upgrade),
            hello_ms=ms(opened.hello),
        )

    def said(self, text: str, seconds: float) -> None:
        self._line("said", text=text, speech_seconds=round(seconds, 2))

    def event(self, event: e.Event) -> None:
        if isinstance(event, e.PacketPlayed):
            return
        if isinstance(event, e.StateChanged):
            self._line("state", state=event.state.value)
            return
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()
        self._line(name, **{f.name: getattr(event, f.name) for f in fields(event)})

    def answered(self, text: str, answer: AnswerReport, saved: str) -> None:
        latency = answer.first_audio_latency
        self._line(
            "answer",
            to=text,
            heard=answer.heard,
            sentences=answer.sentences,
            emotion=answer.emotion,
            audio_ms=answer.audio_ms,
            packets=len(answer.packets),
            first_audio_latency_ms=None if latency is None else ms(latency),
            gaps_ms=[round(gap, 1) for gap in answer.gaps],
            dropped=answer.dropped,
            tts_starts=answer.tts_starts,
            tts_stops=answer.tts_stops,
            tools=[tool.name for tool in answer.tools],
            errors=answer.errors,
            timeline_ms={name: ms(seconds) for name, seconds in answer.moments.items()},
            interrupted=answer.interrupted,
            saved=saved,
        )

    def replayed(self, at: float, text: str) -> None:
        self._line("received", after=round(at, 4), text=text)

    def compared(self, path: str, missing: int, then: AnswerLog, now: AnswerLog) -> None:
        for number, (old, new) in enumerate(zip_longest(then.turns, now.turns), 1):
            self._line(
                "turn",
                file=path,
                turn=number,
                then=None if old is None else asdict(old),
                now=None if new is None else asdict(new),
            )
        self._line("replayed", file=path, missing=missing, then=len(then.turns), now=len(now.turns))

    def failed(self, error: XiaozhiError) -> None:
        self._line("failed", code=error.code, message=error.message)
