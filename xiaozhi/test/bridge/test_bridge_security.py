"""Reading of certificates and tokens."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from msgspec import ValidationError, convert
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.auth import read_secret
from xiaozhi.base.errors import ConfigError
from xiaozhi.bridge.security import (
    ClientSecurity,
    ServerSecurity,
    client_security,
    server_security,
)
from xiaozhi.bridge.settings import ClientSettings, ClientTls, ServerSettings, ServerTls
from xiaozhi.testing.certificates import Authority

TOKEN = "0123456789abcdef" * 2


class SecurityCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.authority = Authority(self.directory)
        self.certificate, self.key = self.authority.issue("ours", "ai.internal")

    def file(self, name: str, content: bytes | str, mode: int = 0o600) -> str:
        path = self.directory / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        os.chmod(path, mode)
        return str(path)

    def client(self, **values: Any) -> ClientSecurity:
        return client_security(convert(values, ClientSettings), read_secret)

    def server(self, **values: Any) -> ServerSecurity:
        return server_security(convert(values, ServerSettings), read_secret)

    def refused(self, *words: str, **values: Any) -> None:
        """Check the refusal at both ends, with the key and the file in the message."""
        for read, section in ((self.client, "bridge"), (self.server, "grpc")):
            error = self.assertRaises(ConfigError, read, **values)
            for word in (section, *words):
                self.assertIn(word, str(error))


class TlsTests(SecurityCase):
    def test_off(self) -> None:
        """The default; no file is read."""
        self.assertEqual(self.client(), ClientSecurity())
        self.assertEqual(self.server(), ServerSecurity())
        self.assertEqual(self.client(tls={"ca_file": "/nowhere"}), ClientSecurity())

    def test_on(self) -> None:
        tls = {"enabled": True, "certificate_file": self.certificate, "key_file": self.key}
        edge = self.client(tls={**tls, "ca_file": self.authority.path, "server_name": "n"})
        ai = self.server(tls={**tls, "client_ca_file": self.authority.path})
        assert edge.pair is not None
        self.assertEqual(edge.pair.certificate, Path(self.certificate).read_bytes())
        self.assertEqual(edge.pair.key, Path(self.key).read_bytes())
        self.assertEqual(edge.ca, Path(self.authority.path).read_bytes())
        self.assertEqual((edge.server_name, edge.tls), ("n", True))
        self.assertEqual((ai.pair, ai.client_ca), (edge.pair, edge.ca))

    def test_public_authorities(self) -> None:
        self.assertEqual(self.client(tls={"enabled": True}), ClientSecurity(tls=True))

    def test_files_that_are_not_right(self) -> None:
        good = {"enabled": True, "certificate_file": self.certificate, "key_file": self.key}
        other = self.authority.issue("other")[1]
        junk = self.file("junk", "no PEM")
        self.refused(
            "tls.certificate_file",
            "/nowhere",
            "No such file",
            tls={**good, "certificate_file": "/nowhere"},
        )
        self.refused(
            "tls.certificate_file",
            junk,
            "no PEM certificate",
            tls={**good, "certificate_file": junk},
        )
        self.refused(
            "tls.key_file", "/nowhere", "No such file", tls={**good, "key_file": "/nowhere"}
        )
        self.refused("tls.key_file", junk, "not an unencrypted PEM", tls={**good, "key_file": junk})
        self.refused(
            "tls.key_file",
            other,
            "does not belong to",
            self.certificate,
            tls={**good, "key_file": other},
        )

    def test_authorities_that_are_not_right(self) -> None:
        good = {"enabled": True, "certificate_file": self.certificate, "key_file": self.key}
        junk = self.file("junk", "no PEM")
        for path in ("/nowhere", junk):
            edge = self.assertRaises(ConfigError, self.client, tls={**good, "ca_file": path})
            self.assertIn(f"bridge.tls.ca_file: {path}", str(edge))
            ai = self.assertRaises(ConfigError, self.server, tls={**good, "client_ca_file": path})
            self.assertIn(f"grpc.tls.client_ca_file: {path}", str(ai))

    def test_a_port_that_strangers_reach_needs_a_token(self) -> None:
        certificates = {
            "enabled": True,
            "certificate_file": self.certificate,
            "key_file": self.key,
        }
        mutual = {**certificates, "client_ca_file": self.authority.path}
        allowed: tuple[dict[str, Any], ...] = (
            {"listen": "127.0.0.1:1"},
            {"listen": "127.8.9.10:1"},
            {"listen": "localhost:1"},
            {"listen": "LOCALHOST:1"},
            {"listen": "[::1]:1"},
            {"listen": "[::ffff:127.0.0.1]:1"},
            {"listen": "0.0.0.0:1", "token": "t" * 32},
            {"listen": "0.0.0.0:1", "tls": mutual},
            {"listen": "0.0.0.0:1", "allow_unauthenticated": True},
        )
        for values in allowed:
            self.server(**values)
        for values in (
            {"listen": "0.0.0.0:1"},
            {"listen": "[::]:1"},
            {"listen": ":::1"},
            {"listen": "*:1"},
            {"listen": "10.0.0.1:1"},
            {"listen": "192.168.1.5:50051"},
            {"listen": "[2001:db8::1]:1"},
            {"listen": "ai.internal:1"},
            {"listen": "localhost.example.com:1"},
            {"listen": "127.0.0.1.example.com:1"},
            {"listen": "0.0.0.0:1", "tls": certificates},
            {"listen": "0.0.0.0:1", "token": ""},
            # An unused certificate authority authenticates nobody.
            {"listen": "0.0.0.0:1", "tls": {**mutual, "enabled": False}},
        ):
            error = str(self.assertRaises(ConfigError, self.server, **values))
            for key in ("grpc.listen", "grpc.token", "grpc.allow_unauthenticated"):
                self.assertIn(key, error, values)

    def test_dependent_settings(self) -> None:
        for values, type_ in (
            ({"enabled": True}, ServerTls),
            ({"enabled": True, "certificate_file": "c"}, ServerTls),
            ({"certificate_file": "c"}, ClientTls),
            ({"key_file": "k"}, ClientTls),
        ):
            self.assertRaises(ValidationError, convert, values, type_)

    def test_a_key_that_others_can_read(self) -> None:
        with capturedLogs() as events:
            os.chmod(self.key, 0o644)
            tls = {"enabled": True, "certificate_file": self.certificate, "key_file": self.key}
            self.server(tls=tls)
        (line,) = map(formatEvent, events)
        self.assertIn(f"grpc.tls.key_file: {self.key} can be read by other users", line)


class TokenTests(SecurityCase):
    def test_given(self) -> None:
        self.assertEqual(self.client(token=TOKEN).token, TOKEN)
        self.assertEqual(self.server(token=TOKEN).token, TOKEN)

    def test_from_a_file(self) -> None:
        path = self.file("token", TOKEN + "\n")
        self.assertEqual(self.client(token_file=path).token, TOKEN)
        self.assertEqual(self.server(token_file=path).token, TOKEN)
        self.assertEqual(self.server(token_file=path, token="x" * 32).token, "x" * 32)

    def test_not_right(self) -> None:
        self.refused("token", "at least 32", token="short")
        self.refused("token", "no spaces", token="a b" * 20)
        self.refused("token", "no spaces", token="密" * 40)
        self.refused("token_file", "/nowhere", "No such file", token_file="/nowhere")
        self.refused("token_file", "empty", token_file=self.file("empty", "\n"))
        self.refused("token_file", "at least 32", token_file=self.file("short", "short"))

    def test_a_file_that_others_can_read(self) -> None:
        with capturedLogs() as events:
            self.client(token_file=self.file("token", TOKEN, 0o644))
        (line,) = map(formatEvent, events)
        self.assertIn("bridge.token_file", line)
        self.assertIn("chmod 600", line)
        self.assertNotIn(TOKEN, line)

    def test_never_shown(self) -> None:
        for holder in (
            ClientSettings(token=TOKEN),
            ServerSettings(token=TOKEN),
            self.client(token=TOKEN),
            self.server(token=TOKEN),
        ):
            self.assertNotIn(TOKEN, repr(holder))
