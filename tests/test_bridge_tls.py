"""Authentication of edge and AI service over real gRPC."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SkipTest, TestCase

from xiaozhi.auth import read_secret
from xiaozhi.base.errors import BridgeError
from xiaozhi.bridge.edge.client import BridgeClient
from xiaozhi.bridge.edge.discovery import Discovery, reactor_resolve
from xiaozhi.bridge.grpc.dialer import GrpcDialer
from xiaozhi.bridge.grpc.loop import AsyncioThread
from xiaozhi.bridge.grpc.port import GrpcPort
from xiaozhi.bridge.security import client_security, server_security
from xiaozhi.bridge.service.server import BridgeServer
from xiaozhi.bridge.settings import ClientSettings, ClientTls, ServerSettings, ServerTls
from xiaozhi.testing.certificates import Authority
from xiaozhi.testing.contracts.bridge import Heard, Sessions, opening
from xiaozhi.wire import messages as m

reactor: Any = _reactor  # it has more interfaces than its stub says

TOKEN = "0123456789abcdef" * 2
NAME = "ai.internal"


class SecureWayCase(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.authority = Authority(self.directory)
        self.stranger = Authority(self.directory, "stranger")
        self.ai_pair = self.authority.issue("ai", "127.0.0.1", NAME)
        self.edge_pair = self.authority.issue("edge")

    def server_tls(self, **values: Any) -> ServerTls:
        certificate, key = self.ai_pair
        return ServerTls(
            **{"enabled": True, "certificate_file": certificate, "key_file": key, **values}
        )

    def client_tls(self, pair: tuple[str, str] = ("", ""), **values: Any) -> ClientTls:
        given = {"ca_file": self.authority.path, "certificate_file": pair[0], "key_file": pair[1]}
        return ClientTls(**{"enabled": True, **given, **values})

    async def listen(self, listen: str = "127.0.0.1:0", **values: Any) -> BridgeServer:
        settings = ServerSettings(listen=listen, **values)
        security = server_security(settings, read_secret)
        self.port = GrpcPort(AsyncioThread(reactor, "ai"), settings, security)
        server = BridgeServer(self.port, Sessions(), settings, reactor, "ai", "ai-boot")
        await server.start()
        self.addCleanup(server.stop)
        return server

    async def dial(self, target: str, server_name: str = "", **values: Any) -> BridgeClient:
        """Dial as an edge; return it and the outcome of its first attempt."""
        values |= {"backoff_base": 0.01, "backoff_cap": 0.02, "streams_per_target": 1}
        settings = ClientSettings(targets=(target,), **values)
        security = client_security(settings, read_secret)
        dialer = GrpcDialer(
            AsyncioThread(reactor, "edge"), settings, security, lambda target: server_name
        )
        client = BridgeClient(dialer, settings, reactor, random.random, "im", "boot")
        await client.start()
        self.addCleanup(client.stop)
        while not (client.status().streams or self.last_error(client)):
            await deferLater(reactor, 0.005)
        return client

    def last_error(self, client: BridgeClient) -> str:
        (detail,) = client.status().detail["targets"].values()
        return str(detail["last_error"])

    async def assert_carries(self, client: BridgeClient) -> None:
        self.assertEqual(self.last_error(client), "")
        heard = Heard()
        client.open(opening(), heard).send(m.Chat("hello"))
        while not heard.messages:
            await deferLater(reactor, 0.005)
        self.assertEqual(heard.messages, [m.Stt("hello")])

    def assert_refused(self, client: BridgeClient, *words: str) -> None:
        """Check that the error names the reason and the remedy in one line, in this order."""
        error = self.last_error(client)
        at = 0
        for word in words:
            self.assertIn(word, error[at:])
            at = error.index(word, at)
        self.assertEqual(client.status().streams, 0)
        self.assertNotIn("\n", error)


class TlsTests(SecureWayCase):
    async def test_encrypted(self) -> None:
        server = await self.listen(tls=self.server_tls())
        await self.assert_carries(await self.dial(server.address, tls=self.client_tls()))

    async def test_mutual(self) -> None:
        server = await self.listen(tls=self.server_tls(client_ca_file=self.authority.path))
        tls = self.client_tls(self.edge_pair)
        await self.assert_carries(await self.dial(server.address, tls=tls))

    async def test_an_unknown_authority(self) -> None:
        server = await self.listen(tls=self.server_tls())
        for ca in (self.stranger.path, ""):
            client = await self.dial(server.address, tls=self.client_tls(ca_file=ca))
            self.assert_refused(
                client, "UNAVAILABLE", "CERTIFICATE_VERIFY_FAILED", "bridge.tls.ca_file"
            )

    async def test_no_certificate_where_one_is_wanted(self) -> None:
        server = await self.listen(tls=self.server_tls(client_ca_file=self.authority.path))
        for pair in (("", ""), self.stranger.issue("strange")):
            client = await self.dial(server.address, tls=self.client_tls(pair))
            self.assert_refused(client, "UNAVAILABLE", "grpc.tls.client_ca_file")

    async def test_one_side_without_tls(self) -> None:
        server = await self.listen(tls=self.server_tls())
        self.assert_refused(await self.dial(server.address), "UNAVAILABLE", "bridge.tls.enabled")
        server = await self.listen()
        client = await self.dial(server.address, tls=self.client_tls())
        self.assert_refused(client, "UNAVAILABLE", "no TLS there")


class NameTests(SecureWayCase):
    """The expected name in the certificate, if it is not the dialled address."""

    async def asetup(self, *hosts: str) -> str:
        certificate, key = self.authority.issue("named", *hosts)
        server = await self.listen(tls=self.server_tls(certificate_file=certificate, key_file=key))
        return server.address

    async def test_the_address_itself(self) -> None:
        address = await self.asetup(NAME)
        client = await self.dial(address, tls=self.client_tls())
        self.assert_refused(client, "UNAVAILABLE", "Hostname", "bridge.tls.server_name")

    async def test_the_name_that_was_resolved(self) -> None:
        address = await self.asetup(NAME)
        await self.assert_carries(await self.dial(address, NAME, tls=self.client_tls()))
        client = await self.dial(address, "other.internal", tls=self.client_tls())
        self.assert_refused(client, "UNAVAILABLE", "Hostname", "bridge.tls.server_name")

    async def test_an_ipv6_address(self) -> None:
        certificate, key = self.authority.issue("named", "::1")
        tls = self.server_tls(certificate_file=certificate, key_file=key)
        try:
            server = await self.listen("[::1]:0", tls=tls)
        except BridgeError:
            raise SkipTest("no IPv6 here") from None
        self.assertRegex(server.address, r"^\[::1\]:\d+$")
        await self.assert_carries(await self.dial(server.address, tls=self.client_tls()))

    async def test_the_setting_wins(self) -> None:
        address = await self.asetup(NAME)
        tls = self.client_tls(server_name=NAME)
        await self.assert_carries(await self.dial(address, "other.internal", tls=tls))


class DiscoveredTests(SecureWayCase):
    """A name that the system resolves, from its look-up to the certificate."""

    async def discover(self, name: str, certificate_for: str) -> BridgeClient:
        certificate, key = self.authority.issue("named", certificate_for)
        server = await self.listen(tls=self.server_tls(certificate_file=certificate, key_file=key))
        port = server.address.rpartition(":")[2]
        settings = ClientSettings(targets=(f"dns:{name}:{port}",), tls=self.client_tls())
        discovery = Discovery(settings.targets, reactor_resolve(reactor), reactor, 0.05, 5)
        security = client_security(settings, read_secret)
        dialer = GrpcDialer(
            AsyncioThread(reactor, "edge"), settings, security, discovery.server_name
        )
        client = BridgeClient(dialer, settings, reactor, random.random, "im", "boot")
        self.assertEqual(client.status().detail["targets"], {})
        await client.start()
        self.addCleanup(client.stop)
        discovery.start(client.retarget)
        self.addCleanup(discovery.stop)
        while not (client.status().streams or self.errors(client)):
            await deferLater(reactor, 0.005)
        self.assertEqual(list(client.status().detail["targets"]), [f"127.0.0.1:{port}"])
        return client

    def errors(self, client: BridgeClient) -> str:
        return "".join(each["last_error"] for each in client.status().detail["targets"].values())

    async def test_the_certificate_has_the_name(self) -> None:
        await self.assert_carries(await self.discover("localhost", "localhost"))

    async def test_the_certificate_has_the_address(self) -> None:
        self.assert_refused(await self.discover("localhost", "127.0.0.1"), "Hostname")


class TokenTests(SecureWayCase):
    async def test_the_right_one(self) -> None:
        server = await self.listen(token=TOKEN)
        await self.assert_carries(await self.dial(server.address, token=TOKEN))

    async def test_with_tls_from_a_file(self) -> None:
        path = self.directory / "token"
        path.touch(0o600)
        path.write_text(TOKEN + "\n")
        server = await self.listen(tls=self.server_tls(), token_file=str(path))
        client = await self.dial(server.address, tls=self.client_tls(), token_file=str(path))
        await self.assert_carries(client)

    async def test_an_unrequired_token(self) -> None:
        server = await self.listen()
        await self.assert_carries(await self.dial(server.address, token=TOKEN))

    async def test_refused(self) -> None:
        """UNAUTHENTICATED at the edge; here one log line for a burst, without the token."""
        server = await self.listen(token=TOKEN)
        for token, why in (("", "no token"), ("y" * 32, "wrong token")):
            with capturedLogs() as events:
                client = await self.dial(server.address, token=token)
                self.assert_refused(client, f"UNAUTHENTICATED: {why}", "bridge.token")
                before = self.port.refused
                while self.port.refused < before + 20:
                    await deferLater(reactor, 0.001)
                    # In every case: a failing write must not hide the reason.
                    self.assert_refused(client, f"UNAUTHENTICATED: {why}", "bridge.token")
                await client.stop()
                await server.stop()
            lines = [
                formatEvent(event) for event in events if event["log_namespace"].endswith("Port")
            ]
            first, rest = lines
            self.assertRegex(first, rf"^refused 1 .*ipv4:127\.0\.0\.1:\d+: {why}; .*grpc\.token")
            self.assertRegex(rest, rf"^refused \d\d .*: {why}; ")
            for event in events:
                self.assertNotIn(TOKEN, formatEvent(event))
                self.assertNotIn("y" * 32, formatEvent(event))
            server = await self.listen(token=TOKEN)

    async def test_a_refused_edge_gets_no_session(self) -> None:
        server = await self.listen(token=TOKEN)
        client = await self.dial(server.address)
        client.open(opening(), Heard())
        while self.port.refused < 3:
            await deferLater(reactor, 0.005)
        self.assertEqual(server.status().sessions, 0)
        self.assertEqual(server.status().streams, 0)


del SecureWayCase
