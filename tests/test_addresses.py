"""Hosts that are not ordinary names, over real sockets."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from twisted.internet import reactor as installed
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.internet.ssl import PrivateCertificate
from twisted.trial.unittest import SkipTest, TestCase
from twisted.web.client import ResponseNeverReceived, readBody
from zope.interface import implementer

from xiaozhi.runtime.connecting import http_agent
from xiaozhi.testing.certificates import Authority
from xiaozhi.testing.vendors.octets import whole
from xiaozhi.testing.vendors.vendor import ScriptedVendor

reactor: Any = installed


@implementer(IHostnameResolver)
class Names:
    """A resolver like an ``/etc/hosts`` that has every name."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def resolveHostName(
        self,
        receiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: object = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """See ``IHostnameResolver``."""
        self.asked.append(hostName)
        resolution = Resolution(hostName)
        receiver.resolutionBegan(resolution)
        receiver.addressResolved(IPv4Address("TCP", "127.0.0.1", portNumber))
        receiver.resolutionComplete()
        return resolution


@implementer(IHostResolution)
class Resolution:
    """A resolution that is complete at once."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Do nothing: it is complete."""


class AddressTests(TestCase):
    """:mod:`xiaozhi.runtime.connecting`."""

    timeout = 20

    def setUp(self) -> None:
        self.vendor = ScriptedVendor(reactor, whole(b"well", "text/plain"))
        self.addCleanup(self.vendor.hang_up)

    async def asked(self, url: str) -> bytes:
        """Return the vendor's answer."""
        agent = http_agent(reactor, connect_timeout=5)
        return await readBody(await agent.request(b"GET", url.encode()))

    async def test_ipv6(self) -> None:
        """By its address."""
        if not socket.has_ipv6:
            raise SkipTest("this machine has no IPv6")
        port = reactor.listenTCP(0, self.vendor, interface="::1")
        self.addCleanup(port.stopListening)
        number = port.getHost().port
        self.assertEqual(await self.asked(f"http://[::1]:{number}/v1"), b"well")
        self.assertEqual(self.vendor.last.headers["host"], f"[::1]:{number}")

    async def test_names(self) -> None:
        """Names without a registered domain, with and without TLS."""
        names = Names()
        self.addCleanup(reactor.installNameResolver, reactor.installNameResolver(names))
        directory = Path(tempfile.mkdtemp(prefix="xiaozhi-tls-"))
        authority = Authority(directory)
        paths = authority.issue("vendor", "my_host", "*.my_net.example", "a--b")
        pem = "".join(Path(path).read_text() for path in reversed(paths))
        own = PrivateCertificate.loadPEM(pem)
        plain = reactor.listenTCP(0, self.vendor, interface="127.0.0.1")
        secure = reactor.listenSSL(0, self.vendor, own.options(), interface="127.0.0.1")
        for port in (plain, secure):
            self.addCleanup(port.stopListening)
        with patch.dict(os.environ, SSL_CERT_FILE=authority.path):
            for host in ("my_host", "a--b", "x.my_net.example"):
                url = f"://{host}:{plain.getHost().port}/"
                self.assertEqual(await self.asked("http" + url), b"well")
                url = f"://{host}:{secure.getHost().port}/"
                self.assertEqual(await self.asked("https" + url), b"well")
            url = f"https://other_host:{secure.getHost().port}/"
            await self.assertFailure(Deferred.fromCoroutine(self.asked(url)), ResponseNeverReceived)
        self.assertIn("my_host", names.asked)
