"""``python -m tests.evaluate --ota URL [--only NAME] [FILE …]``: the scripted dialogues against
running services, with their configured providers.

The software device speaks the utterances. Prints one line for each step and exits with 1 if an
expectation failed. ``make eval`` starts the services before.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import deferLater, react

from tests import scripted
from tests.scripted import BadDialogue, Dialogue, Expected, Outcome, Step, failures
from xiaozhi.base.errors import XiaozhiError
from xiaozhi.device import events as e
from xiaozhi.device.answer import AnswerReport
from xiaozhi.device.client import SoftDevice
from xiaozhi.device.errors import DeviceError
from xiaozhi.device.firmware.machine import MachineSettings
from xiaozhi.device.identity import Identity
from xiaozhi.device.sound.voice import Voice, thread_offload

_PATIENCE = 90.0  # seconds for one answer


class Performance:
    """One dialogue with one device."""

    def __init__(self, dialogue: Dialogue, reactor: Any, voice: Voice, ota: str) -> None:
        self.dialogue = dialogue
        self.latencies: list[float] = []
        self._reactor = reactor
        self._voice = voice
        self._ota = ota
        self._events: list[e.Event] = []
        settings = replace(MachineSettings(), mode=dialogue.listen_mode)
        # A new device, without an earlier dialogue.
        address = ":".join(["02", *(f"{octet:02x}" for octet in os.urandom(5))])
        identity = Identity(address, str(uuid4()))
        self._device = SoftDevice(reactor, settings, identity, watch=self._events.append)

    async def played(self) -> list[str]:
        """Play the dialogue. :return: a line for each step, with the reason if it failed."""
        lines = []
        device = self._device
        try:
            boot = await device.boot(self._ota)
            assert boot.endpoint is not None
            await device.connect(boot.endpoint)
            # The device declares its tools.
            await self._pause(1.0)
            for number, step in enumerate(self.dialogue.steps, 1):
                problems = await self._step(step)
                lines += [f"step {number}, {step.told}: {problem}" for problem in problems]
        except (DeviceError, XiaozhiError, TimeoutError) as error:
            lines.append(str(error) or type(error).__name__)
        finally:
            device.close()
        return lines

    def _seen(self, kind: type[Any]) -> int:
        return sum(isinstance(event, kind) for event in self._events)

    async def _pause(self, seconds: float) -> None:
        await deferLater(self._reactor, seconds)

    async def _step(self, step: Step) -> list[str]:
        problems: list[str] = []
        starts = self._seen(e.SpeechStarted)
        if step.wait or step.quiet:
            if step.wake:
                self._device.machine.wake(step.wake)
            await self._pause(step.wait or 3.0)
            if step.quiet and self._seen(e.SpeechStarted) > starts:
                problems.append("something was said")
        else:
            problems = await self._answered(step)
        if step.closed:
            await self._pause(2.0)
        if step.closed == self._device.online:
            problems.append("the server did not hang up" if step.closed else "the server hung up")
        return problems

    async def _answered(self, step: Step) -> list[str]:
        alerts = self._seen(e.Alerted)
        doing = await self._begun(step.say, step.type or step.wake)
        problems: list[str] = []
        if step.interrupt is not None:
            played = self._seen(e.PacketPlayed)
            while self._seen(e.PacketPlayed) == played and not doing.called:
                await self._pause(0.02)
            await self._pause(step.interrupt.after)
            if step.interrupt.abort:
                self._device.abort()
            else:
                over = await (await self._begun(step.interrupt.say, step.interrupt.type))
                problems += self._compared(step.interrupt.expect, over, alerts)
        return problems + self._compared(step.expect, await doing, alerts)

    async def _begun(self, said: str, typed: str) -> Deferred[AnswerReport]:
        if said:
            return self._device.say(await self._voice.of_text(said), _PATIENCE)
        return self._device.text(typed, _PATIENCE)

    def _compared(self, expected: Expected, answer: AnswerReport, alerts: int) -> list[str]:
        if answer.first_audio_latency is not None:
            self.latencies.append(answer.first_audio_latency)
        # Calls of server functions are not visible here.
        if not answer.tools:
            expected = msgspec.structs.replace(expected, tools=None)
        return list(failures(expected, Outcome(answer, None, self._seen(e.Alerted) - alerts)))


def chosen(options: argparse.Namespace) -> list[tuple[Path, Dialogue]]:
    """Read the chosen files.

    :raises BadDialogue: a file is malformed or missing.
    """
    paths = options.files or scripted.files()
    read = [(path, scripted.read(path)) for path in paths]
    read = [(path, each) for path, each in read if not options.only or options.only in path.stem]
    if not read:
        raise BadDialogue(f"there is no dialogue {options.only}")
    return read


async def evaluate(reactor: Any, options: argparse.Namespace) -> int:
    """Play dialogues one after the other. :return: the number of failed ones."""
    failed = 0
    voice = Voice(reactor, thread_offload(reactor))
    try:
        for path, dialogue in chosen(options):
            if dialogue.only == "doubles":
                print(f"skipped  {path.stem:<20} {dialogue.title} (for doubles only)")
                continue
            performance = Performance(dialogue, reactor, voice, options.ota)
            problems = await performance.played()
            failed += bool(problems)
            told = ", ".join(f"{latency:.2f}" for latency in performance.latencies)
            outcome = "FAILED" if problems else "passed"
            print(f"{outcome:<8} {path.stem:<20} {dialogue.title}; first sound after {told} s")
            for problem in problems:
                print(f"         {problem}")
            sys.stdout.flush()
    finally:
        await voice.close()
    print(f"{failed} failed" if failed else "all passed")
    return failed


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.evaluate", description=__doc__)
    parser.add_argument("--ota", required=True, metavar="URL", help="of the AI service")
    parser.add_argument("--only", default="", metavar="NAME", help="those whose name has it")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)

    async def run(reactor: Any) -> None:
        try:
            status = 1 if await evaluate(reactor, options) else 0
        except BadDialogue as error:
            print(error, file=sys.stderr)
            status = 2
        if status:
            raise SystemExit(status)

    react(lambda reactor: Deferred.fromCoroutine(run(reactor)))


if __name__ == "__main__":
    main()
