"""Photos that devices upload with a question about them (§6)."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request

from xiaozhi.ai.http.addresses import device_url
from xiaozhi.ai.http.answers import (
    DEVICE_BODY,
    HttpAnswer,
    failure,
    json_answer,
    refusal,
    text_answer,
)
from xiaozhi.ai.http.endpoint import Endpoint, Responder
from xiaozhi.ai.http.headers import header, header_or_query
from xiaozhi.ai.http.multipart import read_form
from xiaozhi.ai.http.settings import VisionHttpSettings
from xiaozhi.ai.vision.pictures import read_picture
from xiaozhi.base.call import CallContext, calling
from xiaozhi.base.errors import AuthError, ProtocolError, XiaozhiError
from xiaozhi.base.values import Picture
from xiaozhi.interfaces import IDeviceTokens, IVisionModel
from xiaozhi.wire.messages import Device

_PATH = "/api/vision"
_NO_QUESTION = "What is in this picture?"
_CUT = " … (cut)"


class VisionEndpoint(Endpoint):
    """``POST``: question and picture in, words out. ``GET``: what this is.

    What goes wrong with the picture or the model is answered with 200: only
    then does the device pass the words on to the language model.

    :param model: gives the vision model in use, None if there is none.
    """

    def __init__(
        self,
        settings: VisionHttpSettings,
        tokens: IDeviceTokens,
        model: Callable[[], IVisionModel | None],
        clock: IReactorTime,
    ) -> None:
        super().__init__(settings.max_bytes)
        self._settings = settings
        self._tokens = tokens
        self._model = model
        self._clock = clock
        self._running = 0

    def responders(self) -> dict[bytes, Responder]:
        """See :class:`Endpoint`."""
        return {b"GET": self._explain, b"POST": self._describe}

    def admit(self, request: Request) -> HttpAnswer | None:
        """Look at the token before the picture."""
        if request.method != b"POST":
            return None
        try:
            self._authorize(request)
        except AuthError as error:
            return refusal(error)
        return None

    def _authorize(self, request: Request) -> Device:
        """A vision token, or the device's own where it was given no other."""
        token, device_id = (
            header_or_query(request, "Authorization"),
            header_or_query(request, "Device-Id"),
        )
        try:
            return self._tokens.verify(token, device_id, "vision")
        except AuthError as error:
            if error.code != "wrong_scope":
                raise
            return self._tokens.verify(token, device_id, "device")

    async def _explain(self, request: Request) -> HttpAnswer:
        state = "a vision model is set up" if self._model() else "no vision model is set up"
        return text_answer(
            "XiaoZhi vision: devices post a question and a picture here as"
            f" multipart/form-data.\nHere {state}.\n"
        )

    async def _describe(self, request: Request) -> HttpAnswer:
        assert request.content is not None
        kind = header(request, "Content-Type")
        try:
            question, picture = self._read(kind, request.content.read())
            return _success(await self._ask(self._authorize(request), picture, question))
        except XiaozhiError as error:
            self._log.info("no words about a picture: {code}", code=error.code)
            return failure(error.code, error.message, 200)

    def _read(self, content_type: str, body: bytes) -> tuple[str, Picture]:
        form = read_form(content_type, body)
        data = form.get("file") or form.get("image")
        if not data:
            raise ProtocolError("no_picture", "the form has no picture in a field file or image")
        question = form.get("question", b"").decode("utf-8", "replace").strip()
        picture = read_picture(data, self._settings.max_pixels)
        return question[: self._settings.max_question] or _NO_QUESTION, picture

    async def _ask(self, device: Device, picture: Picture, question: str) -> str:
        model = self._model()
        if model is None:
            raise ProtocolError("no_vision_model", "no vision model is set up on this server")
        if self._running >= self._settings.concurrent:
            raise ProtocolError("busy", "too many pictures at once, try again in a moment")
        self._running += 1
        try:
            call = CallContext(
                device_id=device.device_id, client_id=device.client_id, user_id=device.user_id
            )
            with calling(call):
                words = model.describe(picture, question)
            return await words.addTimeout(self._settings.timeout, self._clock)
        except DeferredTimeout:
            raise ProtocolError("vision_timeout", "the vision model took too long") from None
        except (XiaozhiError, CancelledError):
            raise
        except Exception:
            self._log.failure("the vision model failed")
            raise ProtocolError("vision_failed", "the vision model failed") from None
        finally:
            self._running -= 1


def _success(words: str) -> HttpAnswer:
    """The words under each name that a known reader looks for, cut so that the
    whole is short enough for a device."""
    kept = words[:DEVICE_BODY].encode("utf-8", "replace").decode()
    answer = _wrapped(kept)
    while len(answer.body) > DEVICE_BODY:
        # Each character takes its bytes three times; shorten by what is over.
        excess = len(answer.body) - DEVICE_BODY
        kept = kept[: len(kept) - max(1, excess // 20)]
        answer = _wrapped(kept + _CUT)
    return answer


def _wrapped(words: str) -> HttpAnswer:
    return json_answer(
        {
            "success": True,
            "action": "RESPONSE",
            "response": words,
            "text": words,
            "result": words,
        }
    )


class VisionOffer:
    """Where a device uploads pictures and its token for that: what MCP
    ``initialize`` tells it.

    The address is ``http.vision.url``, else the host by which the device's own
    authenticated connection reached the edge, with our port. No OTA request has
    a say in it: anybody can send one in a device's name, with any ``Host``.

    :param port: of this service.
    """

    def __init__(self, settings: VisionHttpSettings, tokens: IDeviceTokens, port: int) -> None:
        self._tokens = tokens
        self._port = port
        self._ttl = settings.token_ttl
        self._url = ""
        if settings.url:
            self._url = device_url(settings.url, "http.vision.url", ("http", "https"), _PATH)

    def __call__(self, device: Device, host: str) -> tuple[str, str]:
        """URL and token; an empty URL: none can be offered.

        :param host: by which the device knows the edge, empty if it did not say.
        """
        url = self._url
        if not url and host and self._port:
            url = f"http://{host}:{self._port}{_PATH}"
        return url, self._tokens.issue(device, "vision", self._ttl) if url else ""
