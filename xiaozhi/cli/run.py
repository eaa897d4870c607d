"""``python -m xiaozhi.cli.run``: both services under one supervisor, for trying them out.

``run`` keeps them up until Ctrl-C. ``demo`` lets a software device hold a short conversation with
them and exits non-zero on failure. ``with`` does the same with any command, in which ``{ota}`` is
replaced by the OTA address. Each service is a ``twistd -n`` process: its whole output goes to
``var/log/NAME.log``, the important part to the terminal.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shlex
import shutil
import signal
import socket
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import ProcessExitedAlready, ReactorNotRunning
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from xiaozhi.base.errors import ConfigError, XiaozhiError
from xiaozhi.cli.supervisor import HEALTH_LIMIT, Address, Supervisor, Terminal, Unit
from xiaozhi.runtime.clocks import use_monotonic_timers
from xiaozhi.runtime.config import load_mapping
from xiaozhi.runtime.console import tolerant
from xiaozhi.runtime.listening import free_port, listen

SENTENCES = ("hello", "what time is it", "set the volume to thirty")

# Commands that start their own services, on free ports.
_ON_FREE_PORTS = ("demo", "with")

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

SENTENCE_LIMIT = 45.0  # seconds that the demo waits for each sentence


def read_units(
    im_config: str, ai_config: str, im_sets: Sequence[str] = (), ai_sets: Sequence[str] = ()
) -> list[Unit]:
    """Read from the configuration where the services will listen.

    :raises ConfigError: a file cannot be read.
    """
    im, ai = load_mapping(im_config, im_sets), load_mapping(ai_config, ai_sets)
    edge = _address(im, "listen", "0.0.0.0", 8000)
    http = _address(ai, "http.listen", "0.0.0.0", 8080)
    grpc = _address(ai, "grpc.listen", "127.0.0.1", 50051)
    return [
        Unit("ai", ai_config, tuple(ai_sets), http, (grpc,)),
        Unit("im", im_config, tuple(im_sets), edge),
    ]


def _address(settings: object, key: str, host: str, port: int) -> Address:
    """Return the value of a key; the default if it is absent or the service will refuse it."""
    for part in key.split("."):
        settings = settings.get(part) if isinstance(settings, dict) else None
    if isinstance(settings, str):
        before, _, after = settings.rpartition(":")
        settings = {"host": before.strip("[]"), "port": int(after) if after.isdigit() else port}
    if isinstance(settings, dict):
        given_host, given_port = settings.get("host", host), settings.get("port", port)
        host = given_host if isinstance(given_host, str) else host
        port = int(given_port) if str(given_port).isdigit() else port
    return Address(host, port, key)


def demo_sets(edge: int, grpc: int, http: int, state: str) -> tuple[list[str], list[str]]:
    """Return settings with which a demonstration can run beside other services."""
    return (
        [
            "listen.host=127.0.0.1",
            f"listen.port={edge}",
            f"bridge.targets=['127.0.0.1:{grpc}']",
            f"state_dir={state}",
        ],
        [
            "http.listen.host=127.0.0.1",
            f"http.listen.port={http}",
            f"grpc.listen=127.0.0.1:{grpc}",
            f"http.ota.websocket_url=ws://127.0.0.1:{edge}/xiaozhi/v1/",
            f"state_dir={state}",
        ],
    )


def lan_address() -> str:
    """Return this machine's address on its network; sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


async def check_ports(reactor: Any, units: Sequence[Unit]) -> None:
    """Check that the services' ports are free.

    :raises XiaozhiError: one is in use.
    """
    for unit in units:
        for address in (unit.health, *unit.others):
            try:
                port: IListeningPort = await listen(
                    reactor, address.host, address.port, Factory(), address.key
                )
            except XiaozhiError as error:
                raise XiaozhiError(error.code, f"{unit.config}: {error.message}") from None
            await (port.stopListening() or deferLater(reactor, 0, lambda: None))


# --- the commands -----------------------------------------------------------------------


async def start(supervisor: Supervisor, reactor: Any) -> None:
    """Check that the ports are free and start the services."""
    await check_ports(reactor, supervisor.units)
    supervisor.terminal.say(
        "starting " + " and ".join(f"xiaozhi-{u.name}" for u in supervisor.units)
    )
    try:
        await supervisor.bring_up()
    except XiaozhiError as error:
        paths = ", ".join(str(supervisor.terminal.path(unit.name)) for unit in supervisor.units)
        raise XiaozhiError(error.code, f"{error.message}; see above and {paths}") from None


async def run(supervisor: Supervisor, reactor: Any) -> int:
    """Start the services, print their addresses, and wait."""
    await start(supervisor, reactor)
    supervisor.terminal.say(banner(supervisor.units, supervisor.terminal, lan_address()))
    supervisor.terminal.talkative = True
    await Deferred()
    return 0


def banner(units: Sequence[Unit], terminal: Terminal, own: str) -> str:
    """Return the services' addresses and a command to try next."""
    by_name = {unit.name: unit for unit in units}
    edge, http = by_name["im"].health, by_name["ai"].health
    scripts = sysconfig.get_path("scripts")
    scripts = min(scripts, os.path.relpath(scripts), key=len)
    logs = "  ".join(str(terminal.path(unit.name)) for unit in units)
    return f"""
xiaozhi is up; Ctrl-C stops it.

  WebSocket  ws://{edge.reachable(own)}/xiaozhi/v1/
  OTA        http://{http.reachable(own)}/xiaozhi/ota/  (the address to give a device)
  Health     http://{edge.reachable()}/health  http://{http.reachable()}/health
  Logs       {logs}

Talk to it from another terminal:

  {scripts}/xiaozhi-device --ota http://{http.reachable()}/xiaozhi/ota/ say "what time is it"
"""


class ForegroundCommand(ProcessProtocol):
    """A command on this terminal, such as the software device.

    :ivar ended: fires with its exit status.
    """

    def __init__(self) -> None:
        self.ended: Deferred[int] = Deferred(lambda _: self._terminate())

    def _terminate(self) -> None:
        with suppress(ProcessExitedAlready):
            cast(Any, self.transport).signalProcess("TERM")

    def processEnded(self, reason: Failure) -> None:
        status = cast(Any, reason.value).exitCode
        if not self.ended.called:
            self.ended.callback(1 if status is None else status)


async def run_command(
    supervisor: Supervisor, reactor: Any, command: Sequence[str], limit: float
) -> int:
    """Start the services, run a command with them, and return its exit status.

    :param command: ``{ota}`` in it is replaced by the OTA address, a first word ``python`` by this
        interpreter.
    :param limit: seconds.
    """
    await start(supervisor, reactor)
    http = next(unit.health for unit in supervisor.units if unit.name == "ai")
    ota = f"http://{http.reachable()}/xiaozhi/ota/"
    command = [word.replace("{ota}", ota) for word in command]
    supervisor.terminal.say(shlex.join(command))
    if command[0] == "python":
        command[0] = sys.executable
    running = ForegroundCommand()
    reactor.spawnProcess(
        running, command[0], command, env=dict(os.environ), childFDs={0: 0, 1: 1, 2: 2}
    )
    try:
        return await running.ended.addTimeout(limit, reactor)
    except TimeoutError:
        raise XiaozhiError("timeout", f"the command took longer than {limit:g} s") from None


async def demo(supervisor: Supervisor, reactor: Any, sentences: Sequence[str], saved: Path) -> int:
    """Start the services, let the software device talk, and return its exit status."""
    for old in saved.glob("*.wav"):
        old.unlink()
    command = ["python", "-m", "xiaozhi.device", "--ota", "{ota}", "--save", str(saved), "say"]
    limit = HEALTH_LIMIT + SENTENCE_LIMIT * len(sentences)
    status = await run_command(supervisor, reactor, [*command, *sentences], limit)
    outcome = "the demo worked" if status == 0 else f"the demo failed with status {status}"
    supervisor.terminal.say(f"{outcome}; the answers are in {saved}")
    return status


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m xiaozhi.cli.run", description=__doc__)
    parser.add_argument("--im-config", default="etc/im.yaml", metavar="FILE")
    parser.add_argument("--ai-config", default="etc/ai.yaml", metavar="FILE")
    parser.add_argument("--im-set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--ai-set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--var", default="var", type=Path, metavar="DIRECTORY")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("run", help="keep both services up until Ctrl-C (the default)")
    speaking = commands.add_parser("demo", help="hold a conversation and exit")
    speaking.add_argument("sentences", nargs="*", default=list(SENTENCES))
    other = commands.add_parser("with", help="run any command with both services, and exit")
    other.add_argument("--limit", type=float, default=1800.0, metavar="SECONDS")
    other.add_argument("words", nargs="+", metavar="COMMAND", help="{ota}: the OTA address")
    return parser.parse_args(given)


def twistd(given: Sequence[str]) -> None:
    """Become ``twistd``, in a process group without this terminal's Ctrl-C.

    Only the supervisor decides when a service stops. On Linux, services end with a supervisor that
    is killed.
    """
    from twisted.scripts.twistd import run as run_twistd

    os.setpgrp()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
    sys.argv = ["twistd", *given]
    run_twistd()


def unwritable(error: OSError) -> str:
    """Describe missing write permission and its remedy."""
    problem = f"cannot write {error.filename}: {error.strerror}"
    return f"{problem}; change its owner, or move it away"


def main(given: Sequence[str] | None = None) -> int:
    """Run the command. :return: the exit status."""
    given = sys.argv[1:] if given is None else given
    if given[:1] == ["twistd"]:
        twistd(given[1:])
        return 0
    tolerant(sys.stdout, sys.stderr)
    options = arguments(given)
    state: str | None = None
    try:
        options.var.mkdir(mode=0o700, parents=True, exist_ok=True)
        (options.var / "log").mkdir(mode=0o700, exist_ok=True)
        im_sets, ai_sets = list(options.im_set), list(options.ai_set)
        if options.command in _ON_FREE_PORTS:
            state = tempfile.mkdtemp(prefix="demo-", dir=options.var)
            edge, grpc, http = free_port(), free_port(), free_port()
            own = demo_sets(edge, grpc, http, state)
            im_sets, ai_sets = own[0] + im_sets, own[1] + ai_sets
        units = read_units(options.im_config, options.ai_config, im_sets, ai_sets)
        return serve(options, units)
    except OSError as error:
        print(unwritable(error), file=sys.stderr)
        return 1
    except ConfigError as error:
        print(error.message, file=sys.stderr)
        return 1
    finally:
        if state is not None:
            shutil.rmtree(state, ignore_errors=True)


def serve(options: argparse.Namespace, units: Sequence[Unit]) -> int:
    """Run the reactor around one command. :return: the exit status."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    use_monotonic_timers(reactor)
    prefix = "demo-" if options.command in _ON_FREE_PORTS else ""
    terminal = Terminal(options.var / "log", prefix)
    for unit in units:
        terminal.file(unit.name)
    supervisor = Supervisor(reactor, units, terminal)
    status = 1
    work: Deferred[int] | None = None

    def stop() -> None:
        with suppress(ReactorNotRunning):
            reactor.stop()

    def begin() -> None:
        nonlocal work
        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(stop))
        if options.command == "demo":
            doing = demo(supervisor, reactor, options.sentences, options.var / "demo")
        elif options.command == "with":
            doing = run_command(supervisor, reactor, options.words, options.limit)
        else:
            doing = run(supervisor, reactor)
        work = Deferred.fromCoroutine(doing)
        work.addCallbacks(worked, failed).addBoth(lambda _: stop())

    def worked(result: int) -> None:
        nonlocal status
        status = result

    def failed(failure: Failure) -> None:
        nonlocal status
        if failure.check(CancelledError):
            status = 130 if options.command in _ON_FREE_PORTS else 0
        elif failure.check(XiaozhiError):
            terminal.say(cast(XiaozhiError, failure.value).message)
        elif failure.check(OSError):
            terminal.say(unwritable(cast(OSError, failure.value)))
        else:
            terminal.say(failure.getTraceback())

    def end() -> Deferred[None]:
        # A second Ctrl-C kills the services at once.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: reactor.callFromThread(supervisor.kill))
        if work is not None:
            work.cancel()
        terminal.talkative = False
        if supervisor.protocols:
            terminal.say("stopping")
        return Deferred.fromCoroutine(supervisor.stop()).addBoth(lambda _: terminal.close())

    reactor.callWhenRunning(begin)
    reactor.addSystemEventTrigger("before", "shutdown", end)
    reactor.run()
    return status


if __name__ == "__main__":
    sys.exit(main())
