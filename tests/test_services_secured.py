"""Both services as processes with a secured bridge."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.rawsocket import RawSocket, firmware_head
from tests.services import DOUBLES, Pair, get
from xiaozhi.runtime.listening import free_port
from xiaozhi.testing.certificates import Authority

TOKEN = "0123456789abcdef" * 2
OTHER = "fedcba9876543210" * 2
MAC = "aa:bb:cc:dd:ee:31"


class SecuredTests(TestCase):
    timeout = 120

    def setUp(self) -> None:
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        authority = Authority(directory)
        ai, edge = authority.issue("ai", "localhost"), authority.issue("edge")
        path = directory / "token"
        path.touch(0o600)
        path.write_text(TOKEN)
        self.edge_tls = (
            f"bridge.tls={{enabled: true, ca_file: {authority.path},"
            f" certificate_file: {edge[0]}, key_file: {edge[1]}}}"
        )
        ai_tls = (
            f"grpc.tls={{enabled: true, client_ca_file: {authority.path},"
            f" certificate_file: {ai[0]}, key_file: {ai[1]}}}"
        )
        self.pair = Pair(
            (self.edge_tls, f"bridge.token={TOKEN}", "bridge.backoff_base=0.05"),
            (*DOUBLES, ai_tls, f"grpc.token_file={path}"),
        )
        # The certificate has the name, not the address.
        self.target = f"bridge.targets=['dns:localhost:{self.pair.grpc_port}']"
        self.pair.im.sets += (self.target,)
        self.pair.start()
        self.addCleanup(self.pair.end)

    def test_talk_and_refusals(self) -> None:
        pair = self.pair
        headers = {"Authorization": pair.token(MAC), "Device-Id": MAC}
        device = RawSocket(pair.edge_port, firmware_head("127.0.0.1", "/ws", headers), 20)
        self.addCleanup(device.close)
        device.hello()
        device.text(type="listen", state="detect", text="hi")
        device.until_text("tts", state="stop")

        cases = (
            (
                (self.edge_tls, f"bridge.token={OTHER}"),
                "UNAUTHENTICATED: wrong token",
                "bridge.token",
            ),
            ((self.edge_tls,), "UNAUTHENTICATED: no token", "bridge.token"),
            ((f"bridge.token={TOKEN}",), "UNAVAILABLE", "bridge.tls.enabled"),
        )
        for sets, why, what_to_do in cases:
            edge = pair.edge(free_port(), self.target, *sets)
            self.addCleanup(edge.end)
            edge.start()
            edge.wait_for("/alive")
            error = ""
            while not error:
                detail = edge.wait_for("/health", 503)["bridge"]["detail"]
                error = "".join(each["last_error"] for each in detail["targets"].values())
            self.assertTrue(error.startswith(why), error)
            self.assertIn(what_to_do, error)
            self.assertIn(error, edge.output)
            edge.end()
            self.assertNotIn(OTHER, edge.output)

        status, health = get(pair.http_port, "/health")
        self.assertEqual(status, 200, health)
        self.assertGreaterEqual(health["bridge"]["refused"], 2)
        told = [line for line in pair.ai.output.splitlines() if "refused " in line]
        self.assertIn("127.0.0.1:", told[0])
        self.assertIn("wrong token", told[0])
        self.assertLess(len(told), 5, told)  # for dozens of calls
        for secret in (TOKEN, OTHER):
            self.assertNotIn(secret, pair.output)
        self.assertNotIn("Traceback", pair.output)
