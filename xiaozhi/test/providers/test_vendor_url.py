"""Addresses of vendors as people write them."""

from __future__ import annotations

from base64 import b64decode
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.errors import ConfigError, ProviderError
from xiaozhi.base.values import Picture
from xiaozhi.cache.connection import RedisAddress
from xiaozhi.providers.kit.url import VendorUrl
from xiaozhi.providers.openai.audio import (
    OpenAISpeech,
    OpenAISpeechSettings,
    OpenAITranscription,
    TranscriptionSettings,
)
from xiaozhi.providers.openai.chat import ChatSettings, OpenAIChat
from xiaozhi.providers.openai.vision import OpenAIVision, OpenAIVisionSettings
from xiaozhi.runtime.connecting import ascii_host
from xiaozhi.test.providers.test_provider_registry import DOUBLES, Runtime, choose
from xiaozhi.testing.vendors.network import Network
from xiaozhi.testing.vendors.octets import whole
from xiaozhi.testing.vendors.vendor import ScriptedVendor

# The configured text, and the address of a request for /x.
UNDERSTOOD = (
    ("http://vendor/v1", "http://vendor/v1/x"),
    ("https://api.openai.com/v1/", "https://api.openai.com/v1/x"),
    ("https://vendor/v1///", "https://vendor/v1/x"),
    ("https://vendor", "https://vendor/x"),
    ("https://vendor/", "https://vendor/x"),
    ("  https://vendor/v1\n", "https://vendor/v1/x"),
    ("HTTPS://Vendor.Example/V1", "https://vendor.example/V1/x"),
    # Endpoints from the vendor's documentation.
    ("https://vendor/v1/chat/completions", "https://vendor/v1/x"),
    ("https://vendor/v1/chat/completions/", "https://vendor/v1/x"),
    ("https://vendor/v1/Chat/Completions", "https://vendor/v1/x"),
    ("https://vendor/v1/completions", "https://vendor/v1/x"),
    ("https://vendor/v1/audio/speech", "https://vendor/v1/x"),
    ("https://vendor/v1/audio/transcriptions", "https://vendor/v1/x"),
    ("https://vendor/v1/models", "https://vendor/v1/x"),
    ("https://vendor/chat/completions", "https://vendor/x"),
    ("https://vendor/v1/chat/completions?a=b", "https://vendor/v1/x?a=b"),
    # Queries, as Azure requires them.
    ("https://vendor/d/m?api-version=2024-10-21", "https://vendor/d/m/x?api-version=2024-10-21"),
    ("https://vendor/v1/?a=1&b=%20c", "https://vendor/v1/x?a=1&b=%20c"),
    ("https://vendor?a=b", "https://vendor/x?a=b"),
    # Ports.
    ("http://vendor:80/v1", "http://vendor/v1/x"),
    ("http://vendor:443/v1", "http://vendor:443/v1/x"),
    ("https://vendor:443/v1", "https://vendor/v1/x"),
    ("http://vendor:/v1", "http://vendor/v1/x"),
    # Hosts.
    ("http://my_host:8000/v1", "http://my_host:8000/v1/x"),
    ("http://_srv.my_net/v1", "http://_srv.my_net/v1/x"),
    ("http://r3--sn-a/v1", "http://r3--sn-a/v1/x"),
    ("http://vendor.example./v1", "http://vendor.example./v1/x"),
    ("http://[::1]:8000/v1", "http://[::1]:8000/v1/x"),
    ("http://[2001:DB8::1]/v1", "http://[2001:db8::1]/v1/x"),
    ("http://[::ffff:1.2.3.4]:1/", "http://[::ffff:1.2.3.4]:1/x"),
    ("http://127.0.0.1:11434/v1", "http://127.0.0.1:11434/v1/x"),
    ("http://bücher.example/v1", "http://xn--bcher-kva.example/v1/x"),
    ("http://vendor/模型/v1", "http://vendor/%E6%A8%A1%E5%9E%8B/v1/x"),
    ("http://vendor/a%20b/v1", "http://vendor/a%20b/v1/x"),
    ("http://me:secret@vendor/v1", "http://vendor/v1/x"),
)

REFUSED = (
    "",
    "   ",
    "vendor/v1",
    "localhost:8000/v1",
    "//vendor/v1",
    "ftp://vendor/v1",
    "ws://vendor/v1",
    "http:/vendor/v1",
    "http://",
    "http:///v1",
    "http://:8000/v1",
    "http://ven dor/v1",
    "http://vendor/v 1",
    "http://vendor/v1\tx",
    "http://vendor/v1\u3000x",
    "http://vendor:0/v1",
    "http://vendor:65536/v1",
    "http://vendor:port/v1",
    "http://vendor/v1#top",
    "http://::1:8000/v1",
    "http://[::1/v1",
    "http://[vendor]/v1",
    "http://[::1]x/v1",
    "http://1.2.3/v1",
    "http://1.2.3.400/v1",
    "http://ven..dor/v1",
    "http://-vendor/v1",
    "http://vendor,other/v1",
    "http://" + "a" * 64 + "/v1",
    "http://" + "a." * 130 + "b/v1",
    "http://vendor\x00/v1",
    "https://https://vendor/v1",
)


class AddressTests(SynchronousTestCase):
    """:class:`VendorUrl`."""

    def test_understood(self) -> None:
        for text, url in UNDERSTOOD:
            with self.subTest(text=text):
                self.assertEqual(VendorUrl.parse(text).to("/x").decode(), url)

    def test_refused(self) -> None:
        """With the key's name, and without the text, which may contain a password."""
        for text in REFUSED:
            with self.subTest(text=text):
                error = self.assertRaises(ConfigError, VendorUrl.parse, text, "some.key")
                self.assertRegex(error.message, r"^some\.key: ")
        for text in ("http://me:secret@ven..dor/v1", "http://me:secret@vendor:x"):
            error = self.assertRaises(ConfigError, VendorUrl.parse, text)
            self.assertNotIn("secret", error.message)

    def test_shown(self) -> None:
        url = VendorUrl.parse("http://me:se%20cret@[::1]:8000/v1?key=hidden")
        self.assertEqual(url.place, "http://[::1]:8000/v1")
        self.assertEqual((url.user, url.password), ("me", "se cret"))

    def test_hosts(self) -> None:
        """As other clients get them."""
        for text, host in (("[::1]", "::1"), ("::1", "::1"), ("My_Host", "my_host")):
            self.assertEqual(ascii_host(text), host)
        self.assertEqual(RedisAddress.parse("redis://my_redis:6379/0").host, "my_redis")


class RequestTests(SynchronousTestCase):
    """Requests that arrive at a vendor, from each of the four clients."""

    def setUp(self) -> None:
        self.network = Network()
        self.vendor = ScriptedVendor(self.network, whole({"error": "no"}, status=400))
        for port in (80, 8000):
            self.network.listen(port, self.vendor)

    def ask(self, **settings: Any) -> None:
        """Send one request of each kind."""
        chat = OpenAIChat(ChatSettings(model="m", **settings), self.network, Random(1))
        speech = OpenAISpeech(OpenAISpeechSettings(**settings), self.network)
        hearing = OpenAITranscription(TranscriptionSettings(**settings), self.network)
        sight = OpenAIVision(
            OpenAIVisionSettings(model="v", **settings), self.network, Runtime().offload
        )
        recognition = hearing.recognition()
        recognition.feed(bytes(640))

        async def speak() -> None:
            async for _ in speech.synthesize("a", "en"):
                pass

        async def think() -> None:
            async for _ in chat.reply((), ()):
                pass

        for asking in (
            Deferred.fromCoroutine(think()),
            Deferred.fromCoroutine(speak()),
            recognition.finish(),
            sight.describe(Picture(b"\xff\xd8", "image/jpeg", 1, 1), "what"),
        ):
            self.network.pump([0.01] * 20)
            error = self.failureResultOf(asking, ProviderError).value
            self.assertEqual(error.code, "bad_request")
        for client in (chat, speech, hearing, sight):
            client.close()

    def test_reached(self) -> None:
        """With any form of the host's name."""
        for place, host in (
            ("http://my_host:8000", "my_host:8000"),
            ("http://a--b:8000", "a--b:8000"),
            ("http://Vendor.Example:80", "vendor.example"),
            ("http://[::1]:8000", "[::1]:8000"),
            ("http://bücher.example", "xn--bcher-kva.example"),
        ):
            with self.subTest(place=place):
                self.vendor.requests.clear()
                self.ask(base_url=f"{place}/v1/chat/completions?api-version=1")
                self.assertEqual(
                    [(request.path, request.headers["host"]) for request in self.vendor.requests],
                    [
                        ("/v1/chat/completions?api-version=1", host),
                        ("/v1/audio/speech?api-version=1", host),
                        ("/v1/audio/transcriptions?api-version=1", host),
                        ("/v1/chat/completions?api-version=1", host),
                    ],
                )

    def test_user_name(self) -> None:
        """In the address: used for Basic authentication, not as a part of the host's name."""
        self.ask(base_url="http://me:sec:ret@vendor:8000/v1")
        kind, _, encoded = self.vendor.last.headers["authorization"].partition(" ")
        self.assertEqual((kind, b64decode(encoded)), ("Basic", b"me:sec:ret"))
        self.assertEqual(self.vendor.last.headers["host"], "vendor:8000")

    def test_refused_at_start(self) -> None:
        """The error names the key."""
        for settings, words in (
            ({"base_url": "localhost:8000/v1"}, "must begin with http"),
            ({"base_url": "http://ven dor/v1"}, "blank"),
            ({"base_url": "http://me@vendor/v1", "api_key": "k-123456"}, "api_key"),
        ):
            sections = {"tts": {"openai": settings}}
            error = self.assertRaises(
                ConfigError, choose, DOUBLES | {"tts": "openai"}, sections, Runtime()
            )
            self.assertRegex(error.message, rf"\bproviders\.tts\.openai\.base_url: .*{words}")
