"""Every way a start can fail: one line that names the key or the address, and the status."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.rawsocket import RawSocket, firmware_head
from tests.services import DOUBLES, Pair, get, run_to_end
from xiaozhi.runtime.listening import free_port

# Part of every key and password here; must never be shown.
SECRET = "s3cr3t"

Ended = tuple[int, str]
Case = tuple[str, Callable[[], Ended], tuple[str, ...]]

# Two at a time: most of the time is the start of Python.
_AT_ONCE = 2


class StartupCase(TestCase):
    timeout = 120

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def start(
        self,
        name: str,
        *sets: str,
        config: str | Path = "",
        environment: dict[str, str] | None = None,
    ) -> Callable[[], Ended]:
        """Start a service that should fail; on ports of its own if it does not."""
        own = {
            "im": ["listen.host=127.0.0.1", f"listen.port={free_port()}"],
            "ai": [f"http.listen.port={free_port()}", f"grpc.listen=127.0.0.1:{free_port()}"],
        }[name]
        given = (f"state_dir={self.directory / name}", *own, *sets)
        return lambda: run_to_end(name, *given, config=config, environment=environment)

    def file(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        return path

    def check(self, *cases: Case) -> None:
        """Check that each start ends with status 1 and a line with these words in order."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            running = [(name, pool.submit(call), words) for name, call, words in cases]
        for name, ended, words in running:
            status, output = ended.result()
            with self.subTest(name):
                self.assertEqual(status, 1, output)
                self.assertNotIn("Traceback", output)
                self.assertNotIn(SECRET, output)
                line = self.complaint(output)
                at = 0
                for word in words:
                    found = line.find(word, at)
                    self.assertGreaterEqual(found, 0, f"no {word!r} in {line!r}")
                    at = found + len(word)

    def complaint(self, output: str) -> str:
        """Return the one line with the reason."""
        lines = [
            line
            for line in output.splitlines()
            if "#critical]" in line or line.startswith(("xiaozhi-im: ", "xiaozhi-ai: "))
        ]
        self.assertEqual(len(lines), 1, output)
        return lines[0]


class ConfigurationTests(StartupCase):
    """Errors before anything is started: the output is one line."""

    def complaint(self, output: str) -> str:
        self.assertEqual(len(output.splitlines()), 1, output)
        return super().complaint(output)

    def test_keys_and_values(self) -> None:
        file = self.file("bad.yaml", "listen:\n  prot: 8000\n")
        self.check(
            (
                "unknown key in a file",
                self.start("im", config=file),
                (str(file), "listen.prot: unknown key; did you mean port?"),
            ),
            (
                "unknown key",
                self.start("im", "auth.requierd=true"),
                ("--set auth.requierd: unknown key; did you mean required?",),
            ),
            (
                "out of bounds",
                self.start("im", "listen.port=70000"),
                ("--set listen.port", "expected an integer", "65535", "70000"),
            ),
            (
                "a key too short",
                self.start("im", f"auth.key={SECRET}"),
                ("auth.key: needs at least 32 bytes",),
            ),
            (
                "a token too short",
                self.start("im", f"bridge.token={SECRET}"),
                ("bridge.token: ", "at least 32"),
            ),
            (
                "TLS without a certificate",
                self.start("ai", "grpc.tls.enabled=true"),
                ("grpc.tls", "needs certificate_file and key_file"),
            ),
            (
                "another database",
                self.start("im", f"store.url=mysql://a:{SECRET}@b/c"),
                ("store.url",),
            ),
            (
                "a port that OTA could not tell",
                self.start("ai", "http.ota.websocket_url=http://voice.example.org/"),
                ("http.ota.websocket_url", "ws"),
            ),
        )

    def test_files(self) -> None:
        missing = self.directory / "missing.yaml"
        broken = self.file("broken.yaml", "listen:\n  port: [8000\nauth:\n")
        unset = self.file("unset.yaml", "node: ${XIAOZHI_TEST_NODE}\n")
        pem = self.file("bad.pem", "no key\n")
        self.check(
            ("missing", self.start("ai", config=missing), (str(missing), "there is no such file")),
            ("broken", self.start("im", config=broken), (f"{broken}:3:5", "expected")),
            (
                "no variable",
                self.start("im", config=unset),
                (str(unset), "node", "environment variable XIAOZHI_TEST_NODE is not set"),
            ),
            (
                "not a key",
                self.start("im", "auth.algorithm=ES256", f"auth.private_key_file={pem}"),
                ("auth.private_key_file", str(pem)),
            ),
            (
                "no authority",
                self.start("im", "bridge.tls.enabled=true", f"bridge.tls.ca_file={missing}"),
                (f"bridge.tls.ca_file: {missing}", "No such file"),
            ),
            (
                "no token",
                self.start("ai", f"grpc.token_file={missing}"),
                (f"grpc.token_file: {missing}", "No such file"),
            ),
        )

    def test_state_directory(self) -> None:
        """Below a file, where even root cannot write."""
        file = self.file("file", "")
        below = f"state_dir={file / 'var'}"
        self.check(
            ("im", self.start("im", below), ("state_dir", str(file), "Not a directory")),
            ("ai", self.start("ai", below), ("state_dir", str(file), "Not a directory")),
            (
                "key file",
                self.start("im", f"auth.key_file={file / 'jwt.key'}"),
                ("auth.key_file", str(file)),
            ),
        )

    def test_providers(self) -> None:
        self.check(
            (
                "unknown provider",
                self.start("ai", "selected.asr=sphynx"),
                ("selected.asr", "'sphynx'", "sphinx"),
            ),
            (
                "unknown setting",
                self.start("ai", "providers.tts.tone.milisecond=3"),
                ("providers.tts.tone.milisecond", "unknown key; did you mean milliseconds?"),
            ),
            (
                "bad setting",
                self.start("ai", "selected.tts=tone", "providers.tts.tone.sample_rate=1"),
                ("providers.tts.tone.sample_rate", "expected an integer", "8000"),
            ),
            (
                "prompt",
                self.start("ai", "session.dialogue.prompt='{nonsense}'"),
                ("session.dialogue.prompt", "nonsense"),
            ),
        )


class SurroundingsTests(StartupCase):
    """Errors that only the start itself finds."""

    def test_ports_in_use(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            self.check(
                (
                    "im",
                    self.start("im", f"listen.port={port}"),
                    (f"port {port} on 127.0.0.1 is in use", "listen.port"),
                ),
                (
                    "ai, http",
                    self.start(
                        "ai", *DOUBLES, "http.listen.host=127.0.0.1", f"http.listen.port={port}"
                    ),
                    (f"port {port} on 127.0.0.1 is in use", "http.listen.port"),
                ),
                (
                    "ai, grpc",
                    self.start("ai", *DOUBLES, f"grpc.listen=127.0.0.1:{port}"),
                    (f"127.0.0.1:{port}", "grpc.listen"),
                ),
                (
                    "ai, grpc for everybody",
                    self.start("ai", *DOUBLES, f"grpc.listen=0.0.0.0:{free_port()}"),
                    ("grpc.listen: 0.0.0.0:", "grpc.token", "grpc.allow_unauthenticated"),
                ),
                (
                    "no address of ours",
                    self.start("im", "listen.host=192.0.2.1"),
                    ("192.0.2.1", "listen.host"),
                ),
            )

    def test_databases(self) -> None:
        nobody = free_port()
        with socket.create_server(("127.0.0.1", 0)) as silent:
            silent_port = silent.getsockname()[1]
            below = self.file("file", "") / "im.sqlite3"
            self.check(
                (
                    "PostgreSQL is away",
                    self.start("im", f"store.url=postgresql://me:{SECRET}@127.0.0.1:{nobody}/x"),
                    (f"127.0.0.1:{nobody}", "Check that"),
                ),
                (
                    "Redis is away",
                    self.start("im", f"presence.url=redis://:{SECRET}@127.0.0.1:{nobody}/0"),
                    (f"127.0.0.1:{nobody}", "Check that"),
                ),
                (
                    "Redis is silent",
                    self.start("im", f"presence.url=redis://127.0.0.1:{silent_port}/0"),
                    (f"127.0.0.1:{silent_port}", "Check that"),
                ),
                (
                    "SQLite cannot be made",
                    self.start("im", f"store.url=sqlite:///{below}"),
                    (str(below),),
                ),
            )

    def test_ai_away(self) -> None:
        """Not fatal: the edge reports it, admits devices, and recovers."""
        pair = Pair(("bridge.backoff_base=0.05",))
        self.addCleanup(pair.end)
        pair.im.start()
        health = pair.im.wait_for("/health", 503)
        self.assertEqual(health["status"], "unhealthy", health)
        self.assertIn(health["grpc_status"], ("disconnected", "connecting"), health)
        self.assertEqual(get(pair.edge_port, "/ready"), (200, {"status": "ready"}))
        device_id = "aa:bb:cc:dd:ee:10"
        headers = {"Authorization": pair.token(device_id), "Device-Id": device_id}
        device = RawSocket(pair.edge_port, firmware_head("127.0.0.1", "/ws", headers), 20)
        self.addCleanup(device.close)
        device.hello()
        device.text(type="listen", state="detect", text="hi")
        deadline = time.monotonic() + 10
        while f"127.0.0.1:{pair.grpc_port}" not in pair.im.output:
            self.assertLess(time.monotonic(), deadline, pair.im.output)
            time.sleep(0.05)
        time.sleep(0.5)  # for a few more attempts
        told = [line for line in pair.im.output.splitlines() if str(pair.grpc_port) in line]
        self.assertEqual(len(told), 1, pair.im.output)
        pair.ai.start()
        pair.im.wait_for("/health", 200)
        # On a slow machine the first question may have been given up.
        device.text(type="listen", state="detect", text="hi")
        device.until_text("tts", state="stop")
        self.assertNotIn("Traceback", pair.output)
