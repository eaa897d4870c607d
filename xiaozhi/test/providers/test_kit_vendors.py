"""Two minimal vendors written with the kit alone: a language model over HTTP with JSON lines, and a
synthesiser over a WebSocket. Each is one class and its settings.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer
from zope.interface.verify import verifyObject

from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import (
    Delta,
    Encoding,
    Role,
    SoundFormat,
    TextDelta,
    ToolSpec,
    Utterance,
)
from xiaozhi.interfaces import ILanguageModel, ISynthesizer, ProviderRuntime
from xiaozhi.providers.kit.http.client import VendorClient
from xiaozhi.providers.kit.http.settings import VendorHttpSettings
from xiaozhi.providers.kit.ndjson import JsonLines
from xiaozhi.providers.kit.websocket import WebSocketOptions, connect
from xiaozhi.test.providers.test_websocket_client import PORT, VirtualCase
from xiaozhi.testing.vendors.octets import close_frame, frame, head
from xiaozhi.testing.vendors.vendor import ACCEPT, HANG_UP, NEXT


class LinesSettings(VendorHttpSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the model."""

    base_url: str = f"http://vendor.example:{PORT}/api"
    model: str = "small"


@implementer(ILanguageModel)
class LinesModel:
    """A language model that answers in JSON lines."""

    Settings = LinesSettings

    def __init__(self, settings: LinesSettings, client: VendorClient) -> None:
        self._settings = settings
        self._client = client

    @classmethod
    def make(cls, settings: LinesSettings, runtime: ProviderRuntime) -> LinesModel:
        return cls(settings, VendorClient(settings, runtime.reactor))

    async def reply(
        self, dialogue: Sequence[Utterance], tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[Delta, None]:
        messages = [{"role": each.role.value, "content": each.text} for each in dialogue]
        request = self._settings.merged({"model": self._settings.model, "messages": messages})
        answer = await self._client.post("/chat", json.dumps(request).encode())
        lines = JsonLines()
        async with aclosing(answer.chunks()) as chunks:
            async for chunk in chunks:
                for value in lines.feed(chunk):
                    if (error := self._client.reported(value)) is not None:
                        raise error
                    yield TextDelta(value["message"]["content"])

    def close(self) -> Deferred[None]:
        return self._client.close()


class StreamSettings(VendorHttpSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the synthesiser."""

    base_url: str = f"http://vendor.example:{PORT}"


@implementer(ISynthesizer)
class StreamSynthesizer:
    """A synthesiser that streams PCM over a WebSocket."""

    Settings = StreamSettings
    sound = SoundFormat(Encoding.PCM, 24000)

    def __init__(self, settings: StreamSettings, reactor: Any) -> None:
        self._url = "ws" + settings.base_url.removeprefix("http") + "/tts"
        self._reactor = reactor
        self._options = WebSocketOptions(
            headers={"X-Api-Key": settings.api_key}, secrets=(settings.api_key,)
        )

    @classmethod
    def make(cls, settings: StreamSettings, runtime: ProviderRuntime) -> StreamSynthesizer:
        return cls(settings, runtime.reactor)

    async def synthesize(self, text: str, language: str) -> AsyncGenerator[bytes, None]:
        connection = await connect(self._url, self._reactor, self._options)
        try:
            await connection.send(json.dumps({"text": text, "language": language}))
            while (message := await connection.receive()) is not None:
                if isinstance(message, str):
                    raise ProviderError("vendor_error", "the vendor refused", retryable=True)
                yield message
        finally:
            connection.close()

    def close(self) -> Deferred[None]:
        return succeed(None)


class KitVendorTests(VirtualCase):
    async def said(self, model: LinesModel) -> str:
        async with aclosing(model.reply([Utterance(Role.USER, "hi")], [])) as reply:
            return "".join([delta.text async for delta in reply if isinstance(delta, TextDelta)])

    async def heard(self, synthesizer: StreamSynthesizer) -> bytes:
        async with aclosing(synthesizer.synthesize("Hello.", "en")) as sound:
            return b"".join([piece async for piece in sound])

    def model(self) -> LinesModel:
        model = LinesModel(LinesSettings(api_key="k3y-secret"), self.client())
        self.addCleanup(model.close)
        return model

    def client(self) -> VendorClient:
        return VendorClient(LinesSettings(api_key="k3y-secret"), self.network)

    def test_interfaces(self) -> None:
        verifyObject(ILanguageModel, self.model())
        verifyObject(ISynthesizer, StreamSynthesizer(StreamSettings(), self.network))

    def test_a_model(self) -> None:
        lines = [{"message": {"content": word}} for word in ("Good ", "day", ".")]
        body = [json.dumps(line).encode() + b"\n" for line in lines]
        self.vendor.play([head("application/x-ndjson"), *body, HANG_UP])
        self.assertEqual(self.finish(self.said(self.model())), "Good day.")
        request = self.vendor.last
        self.assertEqual((request.path, request.json()["model"]), ("/api/chat", "small"))
        self.assertEqual(request.headers["authorization"], "Bearer k3y-secret")

    def test_a_model_that_refuses(self) -> None:
        body = b'{"error": "the key k3y-secret is wrong"}'
        length = {"Content-Length": str(len(body))}
        self.vendor.play([head("application/json", 401, length) + body])
        error = self.error(self.said(self.model()))
        self.assertEqual(error.code, "unauthorized")
        self.assertIn("the key *** is wrong", error.message)

    def test_a_synthesiser(self) -> None:
        sound = frame(b"\x01\x00" * 100), frame(b"\x02\x00")
        self.vendor.play([ACCEPT, NEXT, *sound, close_frame()])
        synthesizer = StreamSynthesizer(StreamSettings(api_key="k3y-secret"), self.network)
        self.assertEqual(self.finish(self.heard(synthesizer)), b"\x01\x00" * 100 + b"\x02\x00")
        self.assertEqual(self.vendor.last.headers["x-api-key"], "k3y-secret")
        self.assertEqual(json.loads(self.vendor.last.messages[0])["text"], "Hello.")
