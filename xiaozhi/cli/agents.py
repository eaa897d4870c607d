"""``xiaozhi-agents``: check the agents of a configuration file, show them, or reload them in a
running AI service.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TextIO

import msgspec

from xiaozhi.agents.agent import Agent
from xiaozhi.agents.book import AgentBook, BookReader
from xiaozhi.agents.sections import Selected
from xiaozhi.agents.settings import SessionSettings
from xiaozhi.auth import AuthSettings, admin_token
from xiaozhi.base.errors import ConfigError, XiaozhiError
from xiaozhi.providers.kit.catalogue import ProviderCatalogue
from xiaozhi.runtime.config import load_mapping, read_section
from xiaozhi.runtime.console import tolerant

_PORT = 8080
_TIMEOUT = 30.0
_LONGEST_ANSWER = 1 << 20


class _OneLineParser(argparse.ArgumentParser):
    """Reports an error without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"xiaozhi-agents: {message}; see {self.prog} --help\n")


def arguments() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = _OneLineParser(prog="xiaozhi-agents", description=__doc__)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="check|list|show|reload"
    )
    check = commands.add_parser("check", help="check the agents of the file")
    listing = commands.add_parser("list", help="list the agents, and which devices they serve")
    show = commands.add_parser("show", help="print one agent with everything it inherits")
    show.add_argument("agent", metavar="ID")
    reload = commands.add_parser("reload", help="reload the file in the running service")
    reload.add_argument("--url", help="of the service; default: http.listen on this machine")
    for each in (check, listing, show, reload):
        each.add_argument("--config", default="etc/ai.yaml", help="default: %(default)s")
        each.add_argument("--set", action="append", default=[], dest="sets", metavar="KEY=VALUE")
    return parser


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """The agents' part of an AI service's configuration."""

    path: str
    content: Mapping[str, Any]

    @classmethod
    def read(cls, path: str, sets: Sequence[str]) -> ConfigFile:
        """Read the file.

        :raises ConfigError: it cannot be read.
        """
        return cls(path, load_mapping(path, sets))

    def section(self, key: str, type_: type[Any]) -> Any:
        """Read one section; a missing one has its defaults."""
        return read_section(self.content.get(key) or {}, type_, key, self.path)

    def book(self) -> AgentBook:
        """Read the agents.

        :raises ConfigError: naming the key.
        """
        read = partial(read_section, path=self.path)
        providers = read(self.content.get("providers") or {}, dict[str, Any], "providers")
        agents = read(self.content.get("agents") or {}, dict[str, Any], "agents")
        devices = self.content.get("devices") or {}
        assigned = devices.get("agents") if isinstance(devices, dict) else None
        reader = BookReader(
            self.section("session", SessionSettings),
            msgspec.structs.asdict(self.section("selected", Selected)),
            ProviderCatalogue(providers, read),
            read,
        )
        return reader.read(agents, read(assigned or {}, dict[str, str], "devices.agents"))

    def address(self) -> str:
        """The address of the running service on this machine."""
        http = self.content.get("http") or {}
        listen = (http.get("listen") if isinstance(http, dict) else None) or {}
        host, port = listen.get("host") or "", listen.get("port", _PORT)
        host = "127.0.0.1" if host in ("", "0.0.0.0", "::") else host  # noqa: S104 - a wildcard
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def token(self) -> str:
        """The management token.

        :raises ConfigError: its file cannot be read.
        """
        auth: AuthSettings = self.section("auth", AuthSettings)
        return admin_token(auth.kept_in(Path(self.content.get("state_dir") or "var")))


def run(argv: Sequence[str], out: TextIO, err: TextIO) -> int:
    """Run the command. :return: the exit status: 0, or 1 with the reason on ``err``."""
    told = arguments().parse_args(argv)
    try:
        file = ConfigFile.read(told.config, told.sets)
        book = file.book()
        match told.command:
            case "check":
                print(f"{told.config}: {_count(len(book.agents), 'agent')}, no error", file=out)
            case "list":
                _list(book, out)
            case "show":
                _show(book, told.agent, out)
            case "reload":
                _reload(told.url or file.address(), file.token(), out)
    except XiaozhiError as error:
        print(f"xiaozhi-agents: {error.message}", file=err)
        return 1
    return 0


def _list(book: AgentBook, out: TextIO) -> None:
    for agent in book.agents.values():
        devices = [pattern for pattern, served in book.assigned.items() if served == agent.id]
        serves = ", ".join(devices) or ("every other device" if agent is book.default else "-")
        llm = ", ".join(agent.providers["llm"])
        print(f"{agent.id}  {agent.name or '-'}  {llm}  {serves}", file=out)


def _show(book: AgentBook, agent_id: str, out: TextIO) -> None:
    agent = book.agents.get(agent_id)
    if agent is None:
        known = ", ".join(sorted(book.agents))
        raise ConfigError(f"there is no agent {agent_id}; there are {known}")
    print(json.dumps(_plain(agent), indent=2, ensure_ascii=False), file=out)


def _plain(agent: Agent) -> dict[str, Any]:
    return {
        "id": agent.id,
        "version": agent.version,
        "name": agent.name,
        "providers": {kind: list(several) for kind, several in agent.providers.items()},
        "voice": dict(agent.voice),
        "tools": msgspec.to_builtins(agent.tools),
        "session": msgspec.to_builtins(agent.settings),
    }


def _reload(url: str, token: str, out: TextIO) -> None:
    """Reload the service's file, and print what changed.

    :raises XiaozhiError: the service cannot be reached, or the file has an error.
    """
    address = url.rstrip("/") + "/api/agents/reload"
    if not address.startswith(("http://", "https://")):
        raise ConfigError(f"{url}: expected an http or https address")
    request = urllib.request.Request(  # noqa: S310 - the scheme was checked
        address, method="POST", data=b"", headers={"Authorization": f"Bearer {token}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
            report = json.loads(answer.read(_LONGEST_ANSWER))
    except urllib.error.HTTPError as error:
        raise XiaozhiError("refused", _reason(error)) from None
    except (OSError, ValueError) as error:
        raise XiaozhiError("unreachable", f"{address}: {error}") from None
    print(f"changed: {', '.join(report['changed']) or 'nothing'}", file=out)
    if report["restart"]:
        print(f"needs a restart: {', '.join(report['restart'])}", file=out)


def _reason(error: urllib.error.HTTPError) -> str:
    """Return the service's message for a refusal."""
    try:
        told = json.loads(error.read(_LONGEST_ANSWER))
        return str(told["message"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"{error.url}: {error.code} {error.reason}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def main() -> None:
    """Run ``xiaozhi-agents``."""
    tolerant(sys.stdout, sys.stderr)
    sys.exit(run(sys.argv[1:], sys.stdout, sys.stderr))


if __name__ == "__main__":
    main()
