"""The camera: uploads one small picture as the firmware does (§6)."""

from __future__ import annotations

from base64 import b64decode

from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent

from xiaozhi.device.errors import DeviceError
from xiaozhi.device.firmware.mcp import VisionTarget
from xiaozhi.device.identity import Identity
from xiaozhi.device.network.http import Pieces, post

BOUNDARY = "----ESP32_CAMERA_BOUNDARY"
_PIECE = 512

# 16 by 16 pixels of one colour.
PICTURE = b64decode(
    "/9j//gAQTGF2YzYyLjI4LjEwMgD/2wBDAAgEBAQEBAUFBQUFBQYGBgYGBgYGBgYGBgYHBwcICAgHBwcGBgcHCAgI"
    "CAkJCQgICAgJCQoKCgwMCwsODg4RERT/xABLAAEBAAAAAAAAAAAAAAAAAAAABwEBAAAAAAAAAAAAAAAAAAAABhAB"
    "AAAAAAAAAAAAAAAAAAAAABEBAAAAAAAAAAAAAAAAAAAAAP/AABEIABAAEAMBIgACEQADEQD/2gAMAwEAAhEDEQA/"
    "AKQAMmj/2Q=="
)


async def upload(
    agent: IAgent,
    clock: IReactorTime,
    identity: Identity,
    vision: VisionTarget,
    question: str,
    picture: bytes = PICTURE,
) -> str:
    """Upload a picture with a question.

    :return: the body of the response.
    :raises DeviceError: ``photo_failed``.
    """
    if not vision.url:
        raise DeviceError("photo_failed", "Image explain URL or token is not set")
    headers = {
        "Device-Id": identity.device_id,
        "Client-Id": identity.client_id,
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
    }
    if vision.token:
        headers["Authorization"] = f"Bearer {vision.token}"
    # An unknown length makes the request use Transfer-Encoding: chunked.
    body = Pieces(multipart(question, picture), UNKNOWN_LENGTH)
    try:
        data = await post(agent, clock, vision.url, headers, body, code="photo_failed")
    except DeviceError as error:
        raise DeviceError("photo_failed", f"Failed to upload photo: {error.message}") from error
    return data.decode("utf-8", "replace")


def multipart(question: str, picture: bytes) -> list[bytes]:
    """Return the form in the pieces that the firmware sends as chunks."""
    head = (
        f"--{BOUNDARY}\r\n"
        'Content-Disposition: form-data; name="question"\r\n\r\n'
        f"{question}\r\n"
        f"--{BOUNDARY}\r\n"
        'Content-Disposition: form-data; name="file"; filename="camera.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    ).encode()
    pieces = [picture[at : at + _PIECE] for at in range(0, len(picture), _PIECE)]
    return [head, *pieces, f"\r\n--{BOUNDARY}--\r\n".encode()]
