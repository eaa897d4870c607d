"""``xiaozhi-device``: talk to a server from the command line."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from twisted.internet.defer import Deferred

from xiaozhi.base.errors import XiaozhiError
from xiaozhi.device.answer import AnswerReport
from xiaozhi.device.client import SoftDevice
from xiaozhi.device.errors import DeviceError
from xiaozhi.device.firmware.machine import MachineSettings
from xiaozhi.device.identity import Identity
from xiaozhi.device.network.ota import DeviceEndpoint, Flavour
from xiaozhi.device.network.socket import open_socket
from xiaozhi.device.replay import Replay, answer_log_of, read_recording
from xiaozhi.device.report import HumanReport, JsonReport, TalkReport
from xiaozhi.device.sound.microphone import SAMPLE_RATE
from xiaozhi.device.sound.voice import Voice, save, thread_offload
from xiaozhi.interfaces import Offload
from xiaozhi.runtime.clocks import use_monotonic_timers
from xiaozhi.runtime.console import arguments, tolerant
from xiaozhi.wire.jsontext import JsonDialect
from xiaozhi.wire.messages import ListenMode


def parser() -> ArgumentParser:
    own = Identity()
    result = ArgumentParser(
        prog="xiaozhi-device",
        description="A XiaoZhi device in software. Sends the inputs one after the other and waits"
        " for each answer. Exits non-zero unless every input was answered.",
    )
    add = result.add_argument
    add(
        "command",
        choices=("say", "wav", "text", "replay"),
        help="speak texts, play files, type texts, or replay the device's side of recordings",
    )
    add("inputs", nargs="+", metavar="TEXT|FILE")
    where = result.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--ota", metavar="URL", help="fetch the configuration from here, as devices do"
    )
    where.add_argument("--url", metavar="WS", help="connect to this WebSocket")
    add("--token", default="", help="device token; with --url")
    add(
        "--flavour",
        choices=[f.value for f in Flavour],
        default="firmware",
        help="client that --ota imitates",
    )
    add(
        "--device-id",
        default=own.device_id,
        metavar="MAC",
        help="a server closes the older of two connections with one id (default: %(default)s)",
    )
    add("--client-id", default=own.client_id, metavar="UUID")
    add(
        "--activation",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="with --ota: time to wait for activation (default: %(default)s)",
    )
    add("--mode", choices=[mode.value for mode in ListenMode], default="auto")
    add("--framing", type=int, choices=(1, 2, 3), help="default: from --ota, else 1")
    add("--dialect", choices=[dialect.value for dialect in JsonDialect], default="flat")
    add(
        "--language",
        default="",
        metavar="TAG",
        help="of the texts to say; default: detected",
    )
    add("--save", metavar="DIR", help="directory for the answers as wav files")
    add("--json", action="store_true", help="print one JSON event per line")
    add("--speed", type=float, default=1.0, help="speed of replay (default: %(default)s)")
    add("--timeout", type=float, default=60.0, metavar="SECONDS", help="time limit for each answer")
    return result


class Run:
    """One invocation of the command."""

    def __init__(self, reactor: Any, options: Namespace, report: TalkReport) -> None:
        self._reactor = reactor
        self._options = options
        self._report = report
        self._offload: Offload = thread_offload(reactor)
        self._voice = Voice(reactor, self._offload)

    async def run(self) -> int:
        """Run the command. :return: the exit status."""
        try:
            return await self._talk()
        except XiaozhiError as error:
            self._report.failed(error)
            return 1
        except OSError as error:
            named = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            self._report.failed(DeviceError("file_error", named))
            return 1
        finally:
            await self._voice.close()

    async def _talk(self) -> int:
        options = self._options
        if options.command == "replay":
            return await self._replay()
        if options.save:
            Path(options.save).mkdir(parents=True, exist_ok=True)
        # Synthesise before connecting, so that no device waits for its speech.
        if options.command != "wav":
            options.inputs = arguments(options.inputs)
        sounds = [await self._sound(text) for text in options.inputs]
        endpoint = await self._endpoint()
        device = self._device(endpoint.version)
        answered = 0
        try:
            for number, (text, pcm) in enumerate(zip(options.inputs, sounds, strict=True), 1):
                answered += await self._ask(device, endpoint, number, text, pcm)
        finally:
            await device.close()
        return 0 if answered == len(options.inputs) else 1

    def _device(self, framing: int) -> SoftDevice:
        options = self._options
        settings = MachineSettings(
            mode=ListenMode(options.mode),
            framing=options.framing or framing,
            dialect=JsonDialect(options.dialect),
        )
        return SoftDevice(self._reactor, settings, self._identity(), watch=self._report.event)

    def _identity(self) -> Identity:
        return Identity(self._options.device_id, self._options.client_id)

    async def _endpoint(self) -> DeviceEndpoint:
        options = self._options
        if options.url is not None:
            return DeviceEndpoint(options.url, options.token, options.framing or 1)
        booting = SoftDevice(self._reactor, identity=self._identity())
        boot = await booting.boot(
            options.ota,
            Flavour(options.flavour),
            options.activation,
            lambda boot: self._report.booted(options.ota, boot),
        )
        if boot.endpoint is not None:
            self._report.booted(options.ota, boot)
        else:
            raise DeviceError(
                "not_activated",
                f"the device is not activated; activate it with code {boot.activation}",
            )
        return boot.endpoint

    async def _sound(self, text: str) -> bytes:
        if self._options.command == "say":
            return await self._voice.of_text(text, self._options.language)
        if self._options.command == "wav":
            return await self._voice.of_file(text)
        return b""

    async def _replay(self) -> int:
        options = self._options
        recordings = [read_recording(path) for path in options.inputs]
        same = True
        for path, recorded in zip(options.inputs, recordings, strict=True):
            endpoint = await self._endpoint()
            framing = options.framing or recorded.framing
            socket = await open_socket(self._reactor, endpoint, self._identity(), framing)
            replay = Replay(recorded, self._reactor, options.speed, self._report.replayed)
            socket.user = replay
            try:
                await replay.run(socket)
            finally:
                replay.stop()
                socket.user = None
                socket.drop()
                await socket.lost
            then = answer_log_of(recorded)
            self._report.compared(path, recorded.missing, then, replay.answer_log)
            same = same and len(then.turns) == len(replay.answer_log.turns)
        return 0 if same else 1

    async def _ask(
        self, device: SoftDevice, endpoint: DeviceEndpoint, number: int, text: str, pcm: bytes
    ) -> bool:
        try:
            try:
                answer = await self._answer(device, endpoint, text, pcm)
            except DeviceError as error:
                # The server may close after a farewell, just as the next input begins: retry once.
                if error.code != "closed" or number == 1:
                    raise
                answer = await self._answer(device, endpoint, text, pcm)
        except DeviceError as error:
            self._report.failed(error)
            return False
        saved = ""
        if self._options.save and answer.packets:
            saved = str(Path(self._options.save) / f"{number:02}.wav")
            await self._offload(save, saved, answer.packets, answer.sample_rate)
        self._report.answered(text, answer, saved)
        return bool(answer.packets)

    async def _answer(
        self, device: SoftDevice, endpoint: DeviceEndpoint, text: str, pcm: bytes
    ) -> AnswerReport:
        if not device.online:
            self._report.opened(endpoint, await device.connect(endpoint))
        self._report.said(text, len(pcm) / 2 / SAMPLE_RATE)
        if self._options.command == "text":
            return await device.text(text, self._options.timeout)
        return await device.say(pcm, self._options.timeout)


def run(reactor: Any, argv: Sequence[str], out: TextIO) -> Deferred[int]:
    """Parse the arguments and run the command.

    :return: the exit status.
    :raises SystemExit: wrong usage.
    """
    options = parser().parse_intermixed_args(list(argv))
    report: TalkReport = JsonReport(out, reactor.seconds) if options.json else HumanReport(out)
    return Deferred.fromCoroutine(Run(reactor, options, report).run())


def main(argv: Sequence[str] | None = None) -> None:
    """Run the console script; it exits with 130 after Ctrl-C."""
    from twisted.internet.task import react

    given = sys.argv[1:] if argv is None else argv
    tolerant(sys.stdout, sys.stderr)
    ended = interrupted = False

    def start(reactor: Any) -> Deferred[None]:
        use_monotonic_timers(reactor)
        reactor.addSystemEventTrigger("before", "shutdown", stopping)
        return run(reactor, given, sys.stdout).addCallback(end)

    def end(status: int) -> None:
        nonlocal ended
        ended = True
        if status:
            raise SystemExit(status)

    def stopping() -> None:
        nonlocal interrupted
        interrupted = not ended

    try:
        react(start)
    except SystemExit as leaving:
        raise SystemExit(130 if interrupted else leaving.code) from None
