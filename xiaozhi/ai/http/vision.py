"""Vision over HTTP: photos that devices upload with a question (§6)."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xiaozhi.ai.http.addresses import device_url
from xiaozhi.ai.http.ota import DEVICE_BODY
from xiaozhi.ai.http.settings import VisionHttpSettings
from xiaozhi.ai.vision.pictures import read_picture
from xiaozhi.base.call import CallContext, calling
from xiaozhi.base.errors import ProtocolError, XiaozhiError
from xiaozhi.base.values import Picture
from xiaozhi.interfaces import IDeviceTokens, IVisionModel
from xiaozhi.web.guards import device_guard, verified_device
from xiaozhi.web.multipart import read_form
from xiaozhi.web.replies import HttpError, Reply, error_reply, json_reply, text_reply
from xiaozhi.web.request import WebRequest
from xiaozhi.web.routes import Routes
from xiaozhi.wire.messages import Device

_PATH = "/api/vision"
# Scopes of tokens that permit an upload.
_SCOPES = ("vision", "device")
_NO_QUESTION = "What is in this picture?"
_CUT = " … (cut)"


class VisionHandlers:
    """``POST``: answers a question about a picture. ``GET``: an explanation for people.

    Failures of the picture or the model are answered with 200: only then does the device
    forward the message to the language model.
    """

    _log = Logger()

    def __init__(
        self,
        settings: VisionHttpSettings,
        tokens: IDeviceTokens,
        model: Callable[[], IVisionModel | None],
        clock: IReactorTime,
    ) -> None:
        """:param model: returns the vision model in use; None: pictures are not supported."""
        self._settings = settings
        self._tokens = tokens
        self._model = model
        self._clock = clock
        self._running = 0

    def add_to(self, routes: Routes, path: str) -> None:
        """Add the routes at a path. The token is checked before the picture is read.

        A device sends a vision token, or its own token if it received no other.
        """
        guard = device_guard(self._tokens, *_SCOPES)
        routes.get(path, self.explain)
        routes.post(path, self.describe, guard=guard, max_body=self._settings.max_bytes)

    def explain(self) -> Reply:
        """Explain this path to people."""
        state = "a vision model is set up" if self._model() else "no vision model is set up"
        return text_reply(
            "XiaoZhi vision: devices post a question and a picture here as"
            f" multipart/form-data.\nHere {state}.\n"
        )

    async def describe(self, request: WebRequest) -> Reply:
        """Describe an uploaded picture."""
        try:
            question, picture = self._read(request.header("Content-Type"), request.body)
            device = verified_device(request, self._tokens, *_SCOPES)
            return _success(await self._ask(device, picture, question))
        except XiaozhiError as error:
            self._log.info(
                "request {id}: a picture was not described: {code}",
                id=request.id,
                code=error.code,
            )
            return error_reply(HttpError(200, error.code, error.message))

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
            self._log.failure("the vision model raised an exception")
            raise ProtocolError("vision_failed", "the vision model failed") from None
        finally:
            self._running -= 1


def _success(words: str) -> Reply:
    """Return the words under each name that a known client reads, cut to the size that a
    device can read."""
    kept = words[:DEVICE_BODY].encode("utf-8", "replace").decode()
    answer = _wrapped(kept)
    while len(answer.body) > DEVICE_BODY:
        # The answer contains each character three times; shorten it by the excess.
        excess = len(answer.body) - DEVICE_BODY
        kept = kept[: len(kept) - max(1, excess // 20)]
        answer = _wrapped(kept + _CUT)
    return answer


def _wrapped(words: str) -> Reply:
    return json_reply(
        {
            "success": True,
            "action": "RESPONSE",
            "response": words,
            "text": words,
            "result": words,
        }
    )


class VisionOffer:
    """Provides a device's upload address and token, which MCP ``initialize`` sends it.

    The address is ``http.vision.url``, else the host at which the device's own authenticated
    connection reached the edge, with our port. OTA requests do not influence it: anybody can
    send one for any device id, with any ``Host``.

    :param port: port of this service.
    """

    def __init__(self, settings: VisionHttpSettings, tokens: IDeviceTokens, port: int) -> None:
        self._tokens = tokens
        self._port = port
        self._ttl = settings.token_ttl
        self._url = ""
        if settings.url:
            self._url = device_url(settings.url, "http.vision.url", ("http", "https"), _PATH)

    def __call__(self, device: Device, host: str) -> tuple[str, str]:
        """Return URL and token; an empty URL: uploads are not possible.

        :param host: the host name by which the device reached the edge; empty: unknown.
        """
        url = self._url
        if not url and host and self._port:
            url = f"http://{host}:{self._port}{_PATH}"
        return url, self._tokens.issue(device, "vision", self._ttl) if url else ""
