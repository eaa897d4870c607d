"""Receive path of sound, from the socket to the loudspeaker's queue (§3.3)."""

from __future__ import annotations

from xiaozhi.base.errors import ProtocolError
from xiaozhi.device import events as e
from xiaozhi.device.sound.speaker import Speaker
from xiaozhi.wire.frames import codec
from xiaozhi.wire.messages import AudioParams
from xiaozhi.wire.opus import SAMPLE_RATES, packet_ms


class Downlink:
    """Unpacks binary messages and queues playable packets at the loudspeaker.

    :ivar params: sound format of the server's hello; kept between connections (§2.2).
    """

    def __init__(self, framing: int, speaker: Speaker) -> None:
        _, self._unpack = codec(framing)
        self._speaker = speaker
        self.params = AudioParams(sample_rate=24000)

    def take(self, data: bytes) -> e.PacketPlayed | e.Trouble:
        """Process a binary message.

        :return: the event to report: played, or why the packet was lost.
        """
        try:
            payload = self._unpack(data).payload
        except ProtocolError as error:
            return e.Trouble("bad_frame", error.message)
        duration = packet_ms(payload)
        if not duration:
            return e.Trouble("bad_frame", "not an Opus packet")
        limit, rate = self.params.frame_duration, self.params.sample_rate
        if duration > limit:
            return e.Trouble("undecodable", f"packet of {duration:g} ms; hello said {limit}")
        if rate not in SAMPLE_RATES:
            return e.Trouble("undecodable", f"no decoder for {rate} Hz")
        gap = self._speaker.play(duration)
        if gap is None:
            return e.Trouble("queue_full", "the decode queue is full; the packet was dropped")
        return e.PacketPlayed(payload, duration, gap)
