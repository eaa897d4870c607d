"""A WebSocket as a device channel: framing, close codes, keep-alive."""

from __future__ import annotations

from typing import Protocol

from zope.interface import implementer

from xiaozhi.base.closing import ChannelTerms, CloseReason
from xiaozhi.base.errors import ProtocolError
from xiaozhi.im.session.nobody import NO_EVENTS
from xiaozhi.im.websocket import closecodes
from xiaozhi.interfaces import IDeviceChannel, IDeviceEvents
from xiaozhi.wire.frames import Pack, Unpack, codec, framing_of, pack_v1
from xiaozhi.wire.messages import Audio, Hello


class Socket(Protocol):
    """An open WebSocket."""

    def send_text(self, text: str) -> None:
        """Send one text message."""

    def send_binary(self, data: bytes) -> None:
        """Send one binary message."""

    def close(self, code: int, reason: str) -> None:
        """Send a Close frame and drop TCP soon after: devices do not echo it (§1.1)."""

    def ping(self) -> None:
        """Send a ping."""

    def pause(self) -> None:
        """Stop reading from the socket."""

    def resume(self) -> None:
        """Read again."""


@implementer(IDeviceChannel)
class WebSocketChannel:
    """Translates between a socket's messages and a link.

    :ivar link: receives the device's messages. A closed channel does not refer to it, so that
        no reference cycle remains.
    """

    __slots__ = ("_announced", "_pack", "_socket", "_unpack", "link")

    name = "websocket"

    def __init__(self, socket: Socket, announced: int = 0) -> None:
        """:param announced: the ``Protocol-Version`` header; 0: none."""
        self.link: IDeviceEvents = NO_EVENTS
        self._socket = socket
        self._announced = announced
        self._pack: Pack = pack_v1
        # None: raw packets, which need no unpacking.
        self._unpack: Unpack | None = None

    def began(self, session_id: str, device_id: str) -> None:
        """Handle the start of the session; used by recordings."""

    # --- from the socket

    def text_received(self, text: str) -> None:
        """Handle a text message."""
        self.link.text_received(text)

    def binary_received(self, data: bytes) -> None:
        """Handle a binary message: one framed packet. The hot path."""
        unpack = self._unpack
        if unpack is None:
            self.link.audio_received(Audio(data), len(data))
            return
        try:
            audio = unpack(data)
        except ProtocolError as error:
            self.link.malformed(error, len(data))
            return
        self.link.audio_received(audio, len(data))

    def connection_lost(self, reason: str, code: int = closecodes.ABNORMAL) -> None:
        """End the link: the socket is gone, or its Close frame was sent."""
        link, self.link = self.link, NO_EVENTS
        link.lost(closecodes.ending(code, reason))

    # --- IDeviceChannel

    def greet(self, hello: Hello) -> ChannelTerms:
        version = hello.version or self._announced
        framing = framing_of(version)
        self._pack, unpack = codec(framing)
        self._unpack = unpack if framing != 1 else None
        return ChannelTerms(version, framing)

    def send_text(self, text: str) -> None:
        self._socket.send_text(text)

    def send_audio(self, audio: Audio) -> int:
        data = self._pack(audio)
        self._socket.send_binary(data)
        return len(data)

    def close(self, reason: CloseReason, detail: str) -> None:
        self._socket.close(closecodes.OF_REASON[reason], detail)

    def code_of(self, reason: CloseReason) -> int:
        return closecodes.OF_REASON[reason]

    def probe(self) -> None:
        self._socket.ping()

    def pause(self) -> None:
        self._socket.pause()

    def resume(self) -> None:
        self._socket.resume()
