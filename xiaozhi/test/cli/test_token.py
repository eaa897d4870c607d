"""The command line ``xiaozhi-token``."""

from __future__ import annotations

import argparse
from contextlib import redirect_stderr
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.auth import AuthSettings, JwtTokens, load_keys
from xiaozhi.base.ownership import (
    Applicant,
    ClaimLimits,
    DeviceClaim,
    Registered,
    UnknownDevice,
    fingerprint,
)
from xiaozhi.cli.token import duration, run
from xiaozhi.testing.database import memory_devices

MAC = "aa:bb:cc:dd:ee:ff"


class TokenCommandTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_790_000_000)
        self.key_file = self.mktemp()

    def run_with(self, *argv: str, stdin: str = "") -> tuple[int, str, str]:
        out, err = StringIO(), StringIO()
        status = run(argv, self.clock, StringIO(stdin), out, err)
        return status, out.getvalue(), err.getvalue()

    def issued(self, *options: str) -> str:
        status, out, err = self.run_with(
            "issue", "--device-id", MAC, "--key-file", self.key_file, *options
        )
        self.assertEqual((status, err), (0, ""))
        return out.strip()

    def test_issue(self) -> None:
        token = self.issued("--user-id", "u", "--client-id", "c", "--ttl", "30d")
        settings = AuthSettings(key_file=self.key_file)
        tokens = JwtTokens(load_keys(settings), settings, self.clock)
        device = tokens.authenticate(token, MAC, "c")
        self.assertEqual((device.user_id, device.client_id), ("u", "c"))
        self.assertEqual(tokens.claims(token)["exp"], 1_790_000_000 + 30 * 86400)

    def test_defaults(self) -> None:
        settings = AuthSettings(key_file=self.key_file)
        claims = JwtTokens(load_keys(settings), settings, self.clock).claims(self.issued())
        self.assertEqual(claims["user_id"], f"open:{MAC}")
        self.assertEqual(claims["exp"] - claims["iat"], 2592000)

    def test_show(self) -> None:
        token = self.issued("--ttl", "2d")
        status, out, err = self.run_with("show", token, "--key-file", self.key_file)
        self.assertEqual((status, err), (0, ""))
        self.assertIn(f"device_id  {MAC}\n", out)
        self.assertIn("exp        1790172800 (2026-09-23 14:13:20 UTC, in 2 days)\n", out)
        self.assertIn("valid      yes\n", out)

    def test_show_from_standard_input(self) -> None:
        token = self.issued()
        status, _, _ = self.run_with("show", "-", "--key-file", self.key_file, stdin=token + "\n")
        self.assertEqual(status, 0)

    def test_show_says_why_not(self) -> None:
        token = self.issued("--ttl", "1h")
        self.clock.advance(7200)
        status, out, _ = self.run_with("show", "Bearer " + token, "--key-file", self.key_file)
        self.assertEqual(status, 1)
        self.assertIn("valid      no: the token has expired", out)
        self.assertIn("60 minutes ago", out)
        status, out, _ = self.run_with("show", token, "--key-file", self.mktemp())
        self.assertEqual(status, 1)
        self.assertIn("no: the token was not signed with our key", out)

    def test_admin(self) -> None:
        config = Path(self.mktemp())
        state = self.mktemp()
        config.write_text(f"state_dir: {state}\n")
        status, out, err = self.run_with("admin", "--config", str(config))
        self.assertEqual((status, err), (0, ""))
        file = Path(state, "admin.token")
        self.assertEqual(file.stat().st_mode & 0o777, 0o600)
        self.assertEqual(out, file.read_text() + "\n")
        self.assertEqual(self.run_with("admin", "--config", str(config))[1], out)

    def test_admin_as_configured(self) -> None:
        config = Path(self.mktemp())
        config.write_text("auth: {admin_token: from-the-environment}\n")
        self.assertEqual(
            self.run_with("admin", "--config", str(config)), (0, "from-the-environment\n", "")
        )
        config.write_text("auth: {admin_token: short}\n")
        status, _, err = self.run_with("admin", "--config", str(config))
        self.assertEqual(status, 2)
        self.assertIn("auth.admin_token: needs at least 16", err)

    def test_errors_are_one_line(self) -> None:
        missing = self.mktemp()
        for argv in (
            ("show", "rubbish", "--key-file", self.key_file),
            ("issue", "--device-id", "", "--key-file", self.key_file),
            ("issue", "--device-id", MAC, "--config", missing),
        ):
            status, out, err = self.run_with(*argv)
            self.assertEqual((status, out), (2, ""), argv)
            self.assertEqual(err.count("\n"), 1, err)
            self.assertTrue(err.startswith("xiaozhi-token: "), err)
            self.assertNotIn("header", err)

    def test_wrong_arguments(self) -> None:
        for argv in ((), ("issue",), ("issue", "--device-id", "x", "--ttl", "1y"), ("revoke",)):
            shown = StringIO()
            with redirect_stderr(shown):
                error = self.assertRaises(SystemExit, self.run_with, *argv)
            assert isinstance(error, SystemExit)
            self.assertEqual(error.code, 2)
            self.assertEqual(shown.getvalue().count("\n"), 1, shown.getvalue())

    def test_config(self) -> None:
        config = Path(self.mktemp())
        config.write_text(f"auth:\n  key_file: {self.key_file}\n  ttl: 120\nlisten: x\n")
        status, out, _ = self.run_with("issue", "--device-id", MAC, "--config", str(config))
        self.assertEqual(status, 0)
        settings = AuthSettings(key_file=self.key_file)
        claims = JwtTokens(load_keys(settings), settings, self.clock).claims(out.strip())
        self.assertEqual(claims["exp"] - claims["iat"], 120)
        config.write_text("auth:\n  tll: 120\n")
        status, _, err = self.run_with("issue", "--device-id", MAC, "--config", str(config))
        self.assertEqual(status, 2)
        self.assertIn("auth.tll", err)

    def devices(self, *argv: str) -> tuple[int, str, str]:
        config = Path("devices.yaml")
        config.write_text("state_dir: .\ndevices: {poll_interval: 1, max_devices: 9}\n")
        return self.run_with("devices", *argv, "--config", str(config))

    def test_devices(self) -> None:
        registry = memory_devices(str(Path("devices.sqlite3")))
        self.addCleanup(Path("devices.sqlite3").unlink)
        self.successResultOf(registry.start())
        self.addCleanup(registry.stop)
        at = datetime.fromtimestamp(self.clock.seconds(), UTC)
        limits = ClaimLimits()
        owner, other = (Applicant(MAC, fingerprint(name), about="b/1") for name in ("c", "x"))

        def ask(who: Applicant) -> Registered | DeviceClaim | None:
            return self.successResultOf(registry.apply(who, UnknownDevice.CLAIM, limits, at))

        self.assertEqual(self.devices("list"), (0, "", ""))
        ask(owner)
        claim = ask(other)
        assert isinstance(claim, DeviceClaim)
        status, out, _ = self.devices("list")
        self.assertEqual(status, 0)
        self.assertRegex(
            out,
            rf"\Awaiting   {claim.code}  {MAC}  b/1, asked 1 times, code good for 30 minutes\n"
            rf"approved          {MAC}  b/1, known since 2026-\S+, last seen \S+ \S+ UTC\n\Z",
        )
        spelt = f"{claim.code[:3]} {claim.code[3:]}"
        status, out, _ = self.devices("approve", spelt)
        self.assertEqual((status, out.split()[0]), (0, MAC))
        self.assertIsInstance(ask(other), Registered)
        status, out, _ = self.devices("revoke", MAC.upper())
        self.assertEqual((status, out.split()[0]), (0, MAC))
        self.assertIsInstance(ask(other), DeviceClaim)
        self.assertIn("revoked ", self.devices("list")[1])
        for argv, says in (
            (("approve", claim.code), "no device waits"),
            (("approve", "12345"), "six digits"),
            (("approve", "１２３４５６"), "six digits"),
            (("revoke", "a b"), "device id"),
        ):
            status, out, err = self.devices(*argv)
            self.assertEqual((status, out, err.count("\n")), (2, "", 1), argv)
            self.assertIn(says, err)

    def test_devices_without_a_registry(self) -> None:
        """No registry is created where no service runs: the path would be wrong."""
        for argv in (("list",), ("revoke", MAC), ("approve", "123456")):
            status, out, err = self.devices(*argv)
            self.assertEqual((status, out, err.count("\n")), (2, "", 1))
            self.assertIn("there is no device registry", err)
            self.assertFalse(Path("devices.sqlite3").exists())

    def test_devices_of_a_bad_address(self) -> None:
        config = Path(self.mktemp())
        config.write_text("devices: {url: 'mysql://geheim@h/d'}\n")
        status, _, err = self.run_with("devices", "list", "--config", str(config))
        self.assertEqual(status, 2)
        self.assertIn("devices.url: must be", err)
        self.assertNotIn("geheim", err)

    def test_duration(self) -> None:
        for text, seconds in (("3600", 3600), ("90m", 5400), ("12H", 43200), ("2w", 1209600)):
            self.assertEqual(duration(text), seconds)
        for text in ("", "0", "-1", "1y", "1.5h", "d"):
            self.assertRaises(argparse.ArgumentTypeError, duration, text)
