"""Admission and refusal at the edge, byte for byte on real sockets."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from urllib.parse import quote

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.trial.unittest import TestCase

from tests.rawsocket import RawSocket, Refused, firmware_head
from tests.services import DOUBLES, ROOT, Pair, shared
from xiaozhi.auth import AuthSettings

MAC = "aa:bb:cc:dd:ee:01"
UUID = "6ad52f0c-95a0-4f39-9a37-0e5a5bd2b0c3"

IM_SETS = (
    "auth.leeway=0",
    "link.close_timeout=0.1",
    "gateway.device_burst=1000",
    "gateway.log_interval=0.2",
    "gateway.origins=[http://localhost:8006]",
    "link.hello_timeout=1.5",
    "limits.max_message_bytes=10000",
    "limits.byte_burst=200000",
    "limits.message_burst=60",
    "limits.messages_per_second=20",
)


def browser_head(port: int, path: str) -> bytes:
    """Return a page's request: no header of its own, but an origin and an offer to compress."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n"
        "Pragma: no-cache\r\nUser-Agent: Mozilla/5.0\r\nUpgrade: websocket\r\n"
        "Origin: http://localhost:8006\r\nSec-WebSocket-Version: 13\r\n"
        "Accept-Encoding: gzip, deflate, br\r\nAccept-Language: zh-CN\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
    ).encode()


class RefusalCase(TestCase):
    """Tests share a pair of services and leave it as they found it."""

    timeout = 60

    def setUp(self) -> None:
        self.pair = shared(IM_SETS)

    def open(self, request: bytes) -> RawSocket:
        socket = RawSocket(self.pair.edge_port, request)
        self.addCleanup(socket.close)
        return socket

    def knock(
        self, headers: Mapping[str, str], path: str = "/xiaozhi/v1/", device_id: str = MAC
    ) -> RawSocket:
        """Request the upgrade as the firmware does."""
        given = {"Client-Id": UUID, "Device-Id": device_id, **headers}
        return self.open(firmware_head("127.0.0.1", path, given))

    def device(self, version: int = 1, device_id: str = MAC) -> RawSocket:
        """Connect an admitted device."""
        bearer = f"Bearer {self.pair.token(device_id)}"
        headers = {"Authorization": bearer, "Protocol-Version": str(version)}
        socket = self.knock(headers, device_id=device_id)
        self.assertIsNone(socket.refused)
        return socket

    def refusal(self, socket: RawSocket) -> Refused:
        self.assertIsNotNone(socket.refused, "it was let in")
        assert socket.refused is not None
        self.assertEqual(socket.refused.headers["connection"], "close")
        return socket.refused

    def assert_refused(self, socket: RawSocket, status: int, code: str) -> None:
        refused = self.refusal(socket)
        self.assertEqual((refused.status, refused.error), (status, code))
        self.assertRaises(EOFError, socket.receive)

    def claims(self, **changed: object) -> dict[str, object]:
        now = int(time.time())
        claims = {"user_id": "u", "device_id": MAC, "client_id": UUID, "iat": now, "exp": now + 600}
        return {**claims, **changed}

    def key(self) -> str:
        """The secret that the services share."""
        return (self.pair.state / "jwt.key").read_text().strip()


class AdmissionTests(RefusalCase):
    """§1.2, §1.4, §10: admission."""

    def assert_let_in(self, socket: RawSocket) -> None:
        self.assertIsNone(socket.refused)
        self.assertRegex(socket.hello(), r"\A[A-Za-z0-9_-]+\Z")

    def test_firmware(self) -> None:
        """The firmware adds ``Bearer``, unless the stored token contains a space."""
        token = self.pair.token(MAC)
        for value in (f"Bearer {token}", f"bearer {token}", token):
            self.assert_let_in(self.knock({"Authorization": value}))

    def test_firmware_paths(self) -> None:
        bearer = {"Authorization": f"Bearer {self.pair.token(MAC)}"}
        for path in ("/ws", "/ws/", "/xiaozhi/v1", "/xiaozhi/v1/?from=here"):
            self.assert_let_in(self.knock(bearer, path))

    def test_upper_case_mac(self) -> None:
        bearer = {"Authorization": f"Bearer {self.pair.token(MAC)}"}
        self.assert_let_in(self.knock(bearer, device_id=MAC.upper()))

    def test_android(self) -> None:
        """Header names in lower case, and the client id is the device id."""
        token = self.pair.token(MAC)
        head = (
            "GET /xiaozhi/v1/ HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: Upgrade\r\n"
            "upgrade: websocket\r\nsec-websocket-version: 13\r\n"
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"device-id: {MAC}\r\nclient-id: {MAC}\r\nprotocol-version: 1\r\n"
            f"authorization: Bearer {token}\r\n\r\n"
        )
        self.assert_let_in(self.open(head.encode()))

    def test_py_xiaozhi(self) -> None:
        """It announces itself and offers to compress."""
        head = (
            f"GET /xiaozhi/v1/ HTTP/1.1\r\nHost: 127.0.0.1:{self.pair.edge_port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
            f"Authorization: Bearer {self.pair.token(MAC)}\r\nProtocol-Version: 1\r\n"
            f"Device-Id: {MAC}\r\nClient-Id: {UUID}\r\n"
            "User-Agent: Python/3.11 websockets/15.0\r\n\r\n"
        )
        self.assert_let_in(self.open(head.encode()))

    def test_browser(self) -> None:
        """Everything in the query, in either of two ways."""
        token = self.pair.token(MAC)
        port = self.pair.edge_port
        who = f"device-id={quote(MAC)}&client-id=web_test_client"
        for query in (
            f"{who}&authorization={quote('Bearer ' + token)}",
            f"{who}&token={token}",
            f"device_id={MAC}&token={token}",
        ):
            self.assert_let_in(self.open(browser_head(port, f"/xiaozhi/v1/?{query}")))

    def test_no_compression_is_offered_back(self) -> None:
        token = self.pair.token(MAC)
        path = f"/ws?device-id={MAC}&token={token}"
        socket = self.open(browser_head(self.pair.edge_port, path))
        socket.hello()
        # RSV bits would fail in receive(): it takes plain frames only.
        socket.text(type="ping")
        self.assertIn("timestamp", socket.until_text("pong"))

    def test_refused_tokens(self) -> None:
        good = self.pair.token(MAC)
        bad = {
            "no token": ("", 401, "missing_token"),
            "py-xiaozhi without one": ("Bearer None", 401, "missing_token"),
            "the word alone": ("Bearer", 401, "missing_token"),
            "a stock token": ("Bearer test-token", 401, "bad_token"),
            "cut off": (f"Bearer {good[:-4]}", 401, "bad_token"),
            "of another scheme": (f"Basic {good}", 401, "bad_token"),
            "of another device": (
                f"Bearer {self.pair.token('aa:bb:cc:dd:ee:02')}",
                403,
                "wrong_device",
            ),
            "of another client": (
                f"Bearer {self.pair.token(MAC, client_id='another')}",
                403,
                "wrong_client",
            ),
            "for photos": (f"Bearer {self.pair.token(MAC, scope='vision')}", 403, "wrong_scope"),
        }
        for name, (value, status, code) in bad.items():
            headers = {"Authorization": value} if value else {}
            with self.subTest(name):
                self.assert_refused(self.knock(headers), status, code)
            self.assert_not_shown(value)

    def test_forged_tokens(self) -> None:
        """We choose the algorithm, the key and the times."""
        now = int(time.time())
        key = self.key()
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)

        def part(text: str) -> str:
            return urlsafe_b64encode(text.encode()).decode().rstrip("=")

        _, body, _ = jwt.encode(self.claims(), key).split(".")
        unsigned = part('{"alg":"none","typ":"JWT"}')
        odd = part('{"alg":"nOnE"}')
        forged = {
            "unsigned": (f"{unsigned}.{body}.", "bad_token"),
            "unsigned, oddly spelt": (f"{odd}.{body}.", "bad_token"),
            "another HMAC": (jwt.encode(self.claims(), key, "HS384"), "bad_token"),
            "RS256": (jwt.encode(self.claims(), private, "RS256"), "bad_token"),
            "another key": (jwt.encode(self.claims(), "k" * 40), "bad_token"),
            "expired": (jwt.encode(self.claims(exp=now - 2), key), "token_expired"),
            "not yet": (jwt.encode(self.claims(nbf=now + 60), key), "token_not_yet_valid"),
            "for ever": (jwt.encode({"user_id": "u", "device_id": MAC}, key), "bad_token"),
            "nobody's": (jwt.encode(self.claims(user_id=""), key), "bad_token"),
        }
        for name, (token, code) in forged.items():
            with self.subTest(name):
                self.assert_refused(self.knock({"Authorization": f"Bearer {token}"}), 401, code)
                self.assert_refused(
                    self.open(
                        browser_head(
                            self.pair.edge_port, f"/ws?device-id={MAC}&authorization={token}"
                        )
                    ),
                    401,
                    code,
                )
            self.assert_not_shown(token)

    def test_a_token_by_hand_expires(self) -> None:
        command = [sys.executable, "-m", "xiaozhi.cli.token", "issue", "--device-id", MAC]
        command += ["--ttl", "1", "--key-file", str(self.pair.state / "jwt.key")]
        made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
        self.assertEqual((made.returncode, made.stderr), (0, ""))
        token = made.stdout.strip()
        expires = jwt.decode(token, self.key(), ["HS256"], options={"verify_exp": False})["exp"]
        self.assertLessEqual(expires, time.time() + 1)
        time.sleep(max(0.0, expires + 0.1 - time.time()))
        self.assert_refused(self.knock({"Authorization": f"Bearer {token}"}), 401, "token_expired")

    def test_unauthorized_says_how(self) -> None:
        refused = self.refusal(self.knock({}))
        self.assertEqual(refused.headers["www-authenticate"], "Bearer")

    def test_no_device(self) -> None:
        """A client without a device id gets that error, with any token."""
        token = self.pair.token(MAC)
        head = firmware_head("127.0.0.1", "/ws", {"Authorization": f"Bearer {token}"})
        self.assert_refused(self.open(head), 400, "no_device_id")
        head = browser_head(self.pair.edge_port, f"/ws?token={token}")
        self.assert_refused(self.open(head), 400, "no_device_id")
        self.assert_not_shown(token)

    def test_odd_device_ids(self) -> None:
        token = {"Authorization": self.pair.token(MAC)}
        for device_id in ("x" * 256, "a\tb", "caf\xc3\xa9"):
            refused = self.refusal(self.knock(token, device_id=device_id))
            self.assertEqual((refused.status, refused.error[:4]), (400, "bad_"))

    def test_other_requests(self) -> None:
        bearer = {"Authorization": f"Bearer {self.pair.token(MAC)}"}
        self.assert_refused(self.knock(bearer, "/elsewhere"), 404, "not_found")
        version = {**bearer, "Sec-WebSocket-Version": "7"}
        self.assertIn(self.refusal(self.knock(version)).status, (400, 426))
        path = f"/ws?token={self.pair.token(MAC)}&x=%ff%00"
        head = firmware_head("127.0.0.1", path, {"Sec-WebSocket-Key": "short", "Device-Id": MAC})
        self.assertEqual(self.refusal(self.open(head)).error, "bad_handshake")
        self.assert_refused(self.knock({"X-Long": "x" * 17_000}), 431, "head_too_big")
        self.assert_not_shown(path.partition("token=")[2][:40])

    def test_refusals_are_logged(self) -> None:
        self.assert_refused(self.knock({}, device_id="aa:bb:cc:00:00:07"), 401, "missing_token")
        # Alone, or as the last of a log burst.
        told = r"refused.*: 401 missing_token, .*device aa:bb:cc:00:00:07, peer tcp4:127\.0\.0\.1:"
        until = time.monotonic() + 5
        while not re.search(told, self.pair.im.output):
            self.assertLess(time.monotonic(), until, self.pair.im.output)
            time.sleep(0.05)

    def assert_not_shown(self, token: str) -> None:
        """Check that no part of it is logged."""
        text = token.removeprefix("Bearer ")
        if len(text) > 40:
            for piece in (text[:40], text[-30:]):
                self.assertNotIn(piece, self.pair.output)
        self.assertNotIn("Traceback", self.pair.output)


class ConfiguredTests(TestCase):
    """Other algorithms and modes, from OTA to the answer."""

    timeout = 60

    def pair(self, auth: AuthSettings, *sets: str) -> Pair:
        pair = Pair(sets, (*DOUBLES, *sets), auth)
        self.addCleanup(pair.end)
        return pair.start()

    def knock(self, pair: Pair, authorization: str, device_id: str = MAC) -> RawSocket:
        headers = {"Device-Id": device_id, "Client-Id": UUID}
        if authorization:
            headers["Authorization"] = authorization
        socket = RawSocket(pair.edge_port, firmware_head("127.0.0.1", "/ws", headers))
        self.addCleanup(socket.close)
        return socket

    def assert_talks(self, socket: RawSocket) -> None:
        self.assertIsNone(socket.refused)
        socket.hello()
        socket.text(type="listen", state="detect", text="hi")
        socket.until_text("tts", state="stop")

    def from_ota(self, pair: Pair) -> str:
        """Return the token that a device gets."""
        connection = http.client.HTTPConnection("127.0.0.1", pair.http_port, timeout=10)
        self.addCleanup(connection.close)
        connection.request("POST", "/api/ota/", b"{}", {"Device-Id": MAC, "Client-Id": UUID})
        return str(json.loads(connection.getresponse().read())["websocket"]["token"])

    def check_pair_of_keys(self, algorithm: str) -> None:
        pair = self.pair(
            AuthSettings(algorithm=algorithm),  # type: ignore[arg-type]
            f"auth.algorithm={algorithm}",
        )
        token = self.from_ota(pair)
        self.assertEqual(jwt.get_unverified_header(token)["alg"], algorithm)
        self.assert_talks(self.knock(pair, f"Bearer {token}"))
        self.assert_talks(self.knock(pair, f"Bearer {pair.token(MAC)}"))
        # The classic confusion: signed by HMAC, with the public key as its secret.
        pem = next(pair.state.glob("*.pem"))
        self.assertEqual(pem.stat().st_mode & 0o777, 0o600)
        now = int(time.time())
        claims = {"user_id": "u", "device_id": MAC, "exp": now + 600}
        hmac = jwt.encode(claims, "x" * 32)
        refused = self.knock(pair, f"Bearer {hmac}").refused
        assert refused is not None
        self.assertEqual((refused.status, refused.error), (401, "bad_token"))
        self.assertNotIn(token[-30:], pair.output)

    def test_rs256(self) -> None:
        self.check_pair_of_keys("RS256")

    def test_es256(self) -> None:
        self.check_pair_of_keys("ES256")

    def test_not_required(self) -> None:
        pair = self.pair(AuthSettings(required=False), "auth.required=false")
        self.assertIn("auth.required is off", pair.im.output)
        for authorization in ("", "Bearer None", "Bearer test-token", f"Bearer {pair.token(MAC)}"):
            self.assert_talks(self.knock(pair, authorization))
        nobody = RawSocket(pair.edge_port, firmware_head("127.0.0.1", "/ws", {}))
        self.addCleanup(nobody.close)
        assert nobody.refused is not None
        self.assertEqual((nobody.refused.status, nobody.refused.error), (400, "no_device_id"))
