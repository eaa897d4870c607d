"""``xiaozhi-token``: issue a device token, check one, print the management token, or manage the
device registry.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TextIO

import jwt
import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import provider

from xiaozhi.auth import (
    AuthSettings,
    DevicesSettings,
    JwtTokens,
    admin_token,
    bare_token,
    device_identity,
    load_keys,
    open_user,
)
from xiaozhi.base.errors import ConfigError, XiaozhiError
from xiaozhi.runtime.clocks import wall_time
from xiaozhi.runtime.config import load_mapping, read_section
from xiaozhi.runtime.console import tolerant
from xiaozhi.storage import DirectRegistry, direct_registry
from xiaozhi.wire.messages import Device

# The most devices and claims to list.
_LISTED = 10_000
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d{1,9})([smhdw]?)")


def duration(text: str) -> float:
    """Return the seconds of ``3600``, ``90m``, ``12h``, ``30d`` or ``2w``."""
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time like 3600, 12h or 30d")
    return float(int(match[1]) * _UNITS[match[2]])


class _OneLineParser(argparse.ArgumentParser):
    """Reports an error without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"xiaozhi-token: {message}; see {self.prog} --help\n")


def arguments() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = _OneLineParser(prog="xiaozhi-token", description=__doc__)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="issue|show|admin|devices"
    )
    issue = commands.add_parser("issue", help="print a new token")
    issue.add_argument("--device-id", required=True, help="the MAC address, as the device sends it")
    issue.add_argument("--user-id", help="the user of the device; default: open:DEVICE_ID")
    issue.add_argument("--client-id", default="", help="also bind it to one Client-Id")
    issue.add_argument("--scope", choices=("device", "vision"), default="device")
    issue.add_argument("--ttl", type=duration, help="e.g. 3600, 12h, 30d; default: auth.ttl")
    show = commands.add_parser(
        "show", help="print the claims of a token and whether it is valid here"
    )
    show.add_argument("token", metavar="TOKEN", help="the token; - reads it from standard input")
    admin = commands.add_parser("admin", help="print the management token; generated at first use")
    devices = commands.add_parser("devices", help="list devices, approve or revoke one")
    verbs = devices.add_subparsers(dest="verb", required=True, metavar="list|approve|revoke")
    listing = verbs.add_parser("list", help="list registered and waiting devices")
    approve = verbs.add_parser("approve", help="approve the claim with this code")
    approve.add_argument(
        "code", metavar="CODE", help="the six digits that the device shows and speaks"
    )
    revoke = verbs.add_parser("revoke", help="disconnect a device and invalidate its tokens")
    revoke.add_argument("device_id", metavar="ID", help="the MAC address")
    for command in (issue, show, admin, listing, approve, revoke):
        command.add_argument(
            "--config", type=Path, help="configuration file; default: built-in defaults"
        )
    for command in (issue, show):
        command.add_argument("--key-file", help="the key, instead of auth.key_file")
    return parser


def read_settings(config: Path | None, key_file: str | None) -> AuthSettings:
    """Read the section ``auth`` of a configuration; without a file, the defaults.

    :raises ConfigError: names the file or the key.
    """
    content = {} if config is None else load_mapping(config)
    section = content.get("auth") or {}
    settings = read_section(section, AuthSettings, "auth", config or "configuration")
    if key_file is not None:
        settings = msgspec.structs.replace(settings, key="", key_file=key_file)
    return settings.kept_in(Path(str(content.get("state_dir", "var"))))


def registry_of(config: Path | None) -> DirectRegistry:
    """Open the device registry of a configuration; without a file, of the defaults.

    :raises ConfigError: names the file or the key.
    :raises StoreError: ``bad_store_url``.
    """
    content = {} if config is None else load_mapping(config)
    section = content.get("devices") or {}
    known = {name: section[name] for name in DevicesSettings.__struct_fields__ if name in section}
    settings = read_section(known, DevicesSettings, "devices", config or "configuration")
    return direct_registry(settings.address(Path(str(content.get("state_dir", "var")))))


def run(
    argv: Sequence[str], clock: IReactorTime, stdin: TextIO, stdout: TextIO, stderr: TextIO
) -> int:
    """Run the command.

    :raises SystemExit: 2; the arguments are wrong, or 0 after ``--help``.
    :return: 0; 1 if ``show`` finds the token invalid; 2 after an error.
    """
    options = arguments().parse_args(argv)
    try:
        if options.command == "devices":
            _devices(options, datetime.fromtimestamp(wall_time(clock)(), UTC), stdout)
            return 0
        settings = read_settings(options.config, getattr(options, "key_file", None))
        if options.command == "admin":
            stdout.write(admin_token(settings) + "\n")
            return 0
        if options.command == "show":
            return _show(options.token, settings, clock, stdin, stdout)
        if not options.device_id.strip():
            raise ConfigError("--device-id is empty; give the MAC address, as the device sends it")
        tokens = JwtTokens(load_keys(settings), settings, clock)
        device = Device(
            device_id=options.device_id,
            client_id=options.client_id,
            user_id=options.user_id or open_user(options.device_id.strip()),
        )
        stdout.write(tokens.issue(device, options.scope, options.ttl or settings.ttl) + "\n")
    except XiaozhiError as error:
        stderr.write(f"xiaozhi-token: {error.message}\n")
        return 2
    return 0


def _devices(options: argparse.Namespace, now: datetime, stdout: TextIO) -> None:
    registry = registry_of(options.config)
    if options.verb == "approve":
        code = "".join(options.code.split())
        if not re.fullmatch("[0-9]{6}", code):
            raise ConfigError("a code has six digits; see xiaozhi-token devices list")
        found = registry.approve(code, now)
        stdout.write(f"{found.device_id} is approved; it can connect within seconds\n")
    elif options.verb == "revoke":
        found = registry.revoke(device_identity(options.device_id), now)
        stdout.write(
            f"{found.device_id} is revoked; it is disconnected within seconds and gets a new code"
            " at its next OTA request\n"
        )
    else:
        waiting, known = registry.claims(now, _LISTED), registry.devices(_LISTED)
        for claim in waiting:
            left = _distance((claim.expires - now).total_seconds())
            about = f"{claim.about}, asked {claim.attempts} times, code good for {left}"
            stdout.write(f"waiting   {claim.code}  {claim.device_id}  {about}\n")
        for device in known:
            seen = f"{device.first_seen:%Y-%m-%d}, last seen {device.last_seen:%Y-%m-%d %H:%M} UTC"
            about = f"{device.about}, known since {seen}"
            stdout.write(f"{device.state.value:<8}  {'':6}  {device.device_id}  {about}\n")
        if _LISTED in (len(waiting), len(known)):
            stdout.write(f"(the newest {_LISTED} of each; there may be more)\n")


def _show(
    token: str, settings: AuthSettings, clock: IReactorTime, stdin: TextIO, stdout: TextIO
) -> int:
    text = bare_token(stdin.readline() if token == "-" else token)  # noqa: S105
    try:
        claims: Mapping[str, Any] = jwt.decode(text, options={"verify_signature": False})
        header: Mapping[str, Any] = jwt.get_unverified_header(text)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise ConfigError("this is not a JWT") from None
    for name, value in {"alg": header.get("alg"), **claims}.items():
        label = name if name.isprintable() else json.dumps(name)
        stdout.write(f"{label:<10} {_legible(name, value, wall_time(clock)())}\n")
    try:
        JwtTokens(load_keys(settings), settings, clock).claims(text)
    except XiaozhiError as error:
        stdout.write(f"{'valid':<10} no: {error.message}\n")
        return 1
    stdout.write(f"{'valid':<10} yes\n")
    return 0


def _legible(name: str, value: object, now: float) -> str:
    if name not in {"exp", "nbf", "iat"} or not isinstance(value, int | float):
        plain = isinstance(value, str) and value.isprintable()
        return str(value) if plain else json.dumps(value)
    try:
        moment = datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return str(value)
    distance = _distance(abs(value - now))
    relative = f"in {distance}" if value > now else f"{distance} ago"
    return f"{value} ({moment:%Y-%m-%d %H:%M:%S} UTC, {relative})"


def _distance(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


@provider(ILogObserver)
def _notice(event: LogEvent) -> None:
    """Print warnings about keys: generated, or readable by others."""
    if str(event.get("log_namespace")).startswith("xiaozhi."):
        print(f"xiaozhi-token: {formatEvent(event)}", file=sys.stderr)


def main() -> None:
    """Run ``xiaozhi-token``."""
    from twisted.internet import reactor

    tolerant(sys.stdout, sys.stderr)
    globalLogPublisher.addObserver(_notice)
    sys.exit(run(sys.argv[1:], IReactorTime(reactor), sys.stdin, sys.stdout, sys.stderr))


if __name__ == "__main__":
    main()
