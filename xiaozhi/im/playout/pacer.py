"""Pacer: sends speech to a device at playback speed.

Devices have almost no jitter buffer and drop excess packets, so the server must pace (§3.3).
These rules hold whatever the AI sends:

* exactly one ``tts stop`` for every ``tts start``, and never one of an older
  turn after a newer start (§4.5);
* packets leave on an absolute clock that starts with a tick of the wheel, at most
  ``lead_frames`` and that tick ahead of the packet being played, the first no
  earlier than ``start_gap`` after ``tts start``;
* after a gap the clock restarts: late sound is not sent faster;
* ``sentence_start`` is sent with the first packet of its sentence, and not at all if
  the AI is lost before that packet arrives;
* ``tts stop`` is sent at the estimated end of playback, not with the last packet.
"""

from __future__ import annotations

from collections import deque

from twisted.internet.interfaces import IReactorTime

from xiaozhi.im.counts import EdgeCounts
from xiaozhi.im.playout.output import NO_OUTPUT, PacerOutput
from xiaozhi.im.playout.timerwheel import TickWheel
from xiaozhi.im.settings import PacerSettings
from xiaozhi.wire.messages import Audio, Playback, PlaybackState, Tts, TtsState
from xiaozhi.wire.opus import packet_ms

_SOON = 1e-6


class Pacer:
    """Paces the speech of one device; sans-I/O, timed by a shared wheel.

    The queue holds at most ``max_frames`` packets; further packets are dropped and counted, as
    are packets without a turn or of a turn that is over.

    :ivar stale: packets dropped because their turn was not open.
    :ivar overflowed: packets dropped because the queue was full.
    """

    __slots__ = (
        "_armed",
        "_blocked",
        "_clock",
        "_counts",
        "_ended",
        "_frame_ms",
        "_frames",
        "_heard_since",
        "_held",
        "_late",
        "_lead",
        "_not_before",
        "_output",
        "_paused",
        "_play_at",
        "_pumping",
        "_queue",
        "_sent_ms",
        "_sentences",
        "_settings",
        "_speaking",
        "_tail",
        "_turn",
        "_wheel",
        "_winding_up",
        "overflowed",
        "stale",
    )

    def __init__(
        self,
        output: PacerOutput,
        wheel: TickWheel,
        clock: IReactorTime,
        settings: PacerSettings,
        frame_ms: int,
        counts: EdgeCounts,
    ) -> None:
        """
        :param frame_ms: length in ms of a packet that does not contain its own.
        :param counts: counters of all pacers.
        """
        self._output: PacerOutput = output
        self._wheel = wheel
        self._clock = clock
        self._settings = settings
        self._frame_ms = frame_ms
        self._counts = counts
        self._late = counts.lateness.observe
        self._queue: deque[Tts | Audio] = deque()
        self._frames = 0
        # The device's turn: its start was sent, its stop was not.
        self._turn: int | None = None
        # The turn that still accepts sentences and packets: its stop has not arrived.
        self._tail: int | None = None
        # The newest turn that was begun or cut; older ones are ignored.
        self._ended = 0
        # Estimated time at which the device has played all sent sound of the open turn.
        self._play_at = 0.0
        self._sent_ms = 0.0
        self._not_before = 0.0
        # How early a packet may leave, in seconds.
        self._lead = settings.lead_frames * frame_ms / 1000
        # The tick of the wheel at which the head of the queue is due.
        self._armed: int | None = None
        self._pumping = False
        # The paused turn.
        self._paused: int | None = None
        self._blocked = False
        self._held = False
        # When the first sound of the open turn was sent.
        self._heard_since = 0.0
        # Sentences of the newest turn, and whether one of the open turn has been sent.
        self._sentences = 0
        self._speaking = False
        self._winding_up = False
        self.stale = 0
        self.overflowed = 0

    @property
    def busy(self) -> bool:
        """Whether the device is in a turn, or one is queued."""
        return self._turn is not None or bool(self._queue)

    @property
    def unfinished(self) -> bool:
        """Whether a turn still accepts sentences and packets."""
        return self._tail is not None

    @property
    def turn(self) -> int | None:
        """The device's turn, whose start was sent and whose stop was not."""
        return self._turn

    @property
    def heard_since(self) -> float | None:
        """When the first sound of the current turn was sent; None: not yet."""
        return self._heard_since if self._turn is not None and self._sent_ms else None

    @property
    def frames(self) -> int:
        """Packets in the queue."""
        return self._frames

    # --- from the AI ---------------------------------------------------------------

    def audio(self, audio: Audio) -> None:
        """Queue a packet of a turn."""
        if audio.turn != self._tail or not audio.payload:
            self.stale += 1
            self._counts.dropped.add("stale")
            return
        frames = self._frames
        if frames >= self._settings.max_frames:
            self.overflowed += 1
            self._counts.dropped.add("overflow")
            return
        self._queue.append(audio)
        self._frames = frames = frames + 1
        if frames >= self._settings.high_water and not self._held:
            self._held = True
            self._output.hold()
        # If a wake-up is pending, packets before this one are not due yet.
        if self._armed is None:
            if self._ran_dry(audio.turn):
                self._counts.underruns += 1
            self._pump()

    def _ran_dry(self, turn: int) -> bool:
        """Return whether the device has played all sound so far of an unfinished turn."""
        return (
            turn == self._turn
            and self._sent_ms > 0
            and not self._blocked
            and self._paused is None
            and self._play_at < self._clock.seconds()
        )

    def tts(self, message: Tts) -> None:
        """Queue a turn's start, sentence or stop; ignore it if it does not fit the open turn."""
        if message.state is TtsState.START:
            self._begin(message)
        elif message.turn == self._tail:
            if message.state is TtsState.SENTENCE_START:
                self._sentences += 1
                if self._winding_up and self._sentences > 1:
                    message = Tts(TtsState.STOP, turn=message.turn)
            self._queue.append(message)
            if message.state is TtsState.STOP:
                self._tail = None
        self._pump()

    def _begin(self, start: Tts) -> None:
        turn = start.turn
        if turn == self._tail or (turn and turn <= self._ended):
            return
        if self._tail is not None:
            # The previous turn has no stop from the AI: cut it, so that its stop is sent before
            # this start. A previous turn with a stop is played to its end.
            self.flush(self._tail)
        self._ended = max(self._ended, turn)
        self._tail = turn
        self._sentences = 0
        self._queue.append(start)

    def flush(self, turn: int) -> None:
        """Drop the unplayed rest of ``turn`` and end it now."""
        waiting = [item for item in self._queue if item.turn == turn]
        known = turn == self._turn or turn == self._tail or bool(waiting)
        if not known:
            # Nothing of the turn has arrived yet: ignore all of it.
            self._ended = max(self._ended, turn)
            return
        if self._tail == turn:
            self._tail = None
        if waiting:
            self._queue = deque(item for item in self._queue if item.turn != turn)
            self._count()
        self._disarm()
        if self._paused == turn:
            self._paused = None
        played = 0
        if turn == self._turn:
            played = self._played_ms()
            self._turn = None
            self._output.send(Tts(TtsState.STOP, turn=turn))
        self._output.report(Playback(turn, PlaybackState.FLUSHED, played))
        self._pump()

    def pause(self, turn: int, *, paused: bool) -> None:
        """Pause a turn, or resume it where it stopped.

        The device plays the packets it has. ``tts start`` of a paused turn is still sent.
        """
        if paused:
            waits = any(item.turn == turn for item in self._queue)
            if waits or turn in (self._turn, self._tail) or turn > self._ended:
                self._paused = turn
        elif turn == self._paused:
            self._paused = None
            # The clock restarts: lost time is not made up.
            self._disarm()
            self._pump()

    # --- from the link -----------------------------------------------------------------

    def cut(self) -> None:
        """End the open turn and drop the queued ones: the person interrupts."""
        turns = {item.turn for item in self._queue}
        turns.update(turn for turn in (self._turn, self._tail) if turn is not None)
        # Queued turns first, or the end of the open turn would start them.
        for turn in sorted(turns, key=lambda turn: turn == self._turn):
            self.flush(turn)

    def wind_up(self) -> None:
        """Let the current sentence be the last, or the first one if none has begun."""
        self._winding_up = True
        turn = self._turn
        if turn is None:
            if not self._queue:
                return
            turn = self._queue[0].turn
        for other in sorted({item.turn for item in self._queue} - {turn}):
            self.flush(other)
        speaking = self._turn is not None and (self._speaking or self._sent_ms > 0)
        if speaking:
            self._sentences = max(self._sentences, 1)
        kept: deque[Tts | Audio] = deque()
        for item in self._queue:
            if isinstance(item, Tts) and item.state is TtsState.SENTENCE_START:
                if speaking:
                    break
                speaking = True
            kept.append(item)
        else:
            return  # tts() ends the turn at its next sentence.
        kept.append(Tts(TtsState.STOP, turn=turn))
        if self._tail == turn:
            self._tail = None
        self._queue = kept
        self._count()
        self._pump()

    def finish(self) -> None:
        """Play the queued sound, then stop: the AI is gone."""
        self._paused = None
        if self._tail is not None:
            while self._queue and _announces(self._queue[-1]):
                self._queue.pop()
            self._queue.append(Tts(TtsState.STOP, turn=self._tail))
            self._tail = None
        self._ended = 0
        self._pump()

    def block(self) -> None:
        """Send nothing: the device does not read."""
        self._blocked = True

    def unblock(self) -> None:
        """Undo :meth:`block`; lost time is not made up."""
        self._blocked = False
        self._pump()

    def close(self) -> int:
        """Drop everything and send nothing more: the device is gone.

        :return: played ms of the open turn.
        """
        played = self._played_ms() if self._turn is not None else 0
        self._disarm()
        self._queue.clear()
        self._frames = 0
        self._turn = self._tail = None
        self._output = NO_OUTPUT
        self._blocked = True
        return played

    # --- the clock -------------------------------------------------------------------

    def _played_ms(self) -> int:
        ahead = max(0.0, self._play_at - self._clock.seconds()) * 1000
        return round(max(0.0, self._sent_ms - ahead))

    def _count(self) -> None:
        self._frames = sum(isinstance(item, Audio) for item in self._queue)
        self._ease()

    def _ease(self) -> None:
        if self._held and self._frames <= self._settings.low_water:
            self._held = False
            self._output.release()

    def _wake(self, due: float) -> None:
        if self._armed is None:
            self._armed = self._wheel.at(due, self._awake)

    def _disarm(self) -> None:
        if self._armed is not None:
            self._wheel.cancel(self._armed, self._awake)
            self._armed = None

    def _awake(self) -> None:
        self._armed = None
        self._pump(woken=True)

    def _pump(self, *, woken: bool = False) -> None:
        """Send the due items. Outputs may call the pacer; this only changes the queue.

        :param woken: called by the timer: count the lateness of packets, which is ours.
        """
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._queue and not self._blocked:
                item = self._queue[0]
                if len(self._queue) < 2 and _announces(item):
                    return  # its sound has not arrived yet
                now = self._clock.seconds()
                due = self._due(item)
                if due > now + _SOON:
                    self._wake(due)
                    return
                if item.turn == self._paused and not _begins(item):
                    return
                self._queue.popleft()
                if isinstance(item, Audio):
                    if woken:
                        self._late(now - due if now > due else 0.0)
                    self._play(item, now)
                else:
                    self._send(item, now)
        finally:
            self._pumping = False
        if not self.busy:
            self._output.rested()

    def _due(self, item: Tts | Audio) -> float:
        if isinstance(item, Audio) or item.state is TtsState.SENTENCE_START:
            return max(self._not_before, self._play_at - self._lead)
        if item.state is TtsState.STOP and self._sent_ms:
            return self._play_at + self._settings.stop_margin
        return 0.0

    def _play(self, audio: Audio, now: float) -> None:
        first = not self._sent_ms
        length = packet_ms(audio.payload) or self._frame_ms
        self._lead = self._settings.lead_frames * length / 1000
        # Start the clock at a tick: between two ticks, the fourth packet would leave up to a
        # tick late.
        self._play_at = max(self._play_at, self._wheel.before(now)) + length / 1000
        self._sent_ms += length
        self._frames -= 1
        self._ease()
        self._output.play(audio)
        if first:
            self._heard_since = now
            self._output.report(Playback(audio.turn, PlaybackState.STARTED))

    def _send(self, message: Tts, now: float) -> None:
        if message.state is TtsState.START:
            self._speaking = False
            self._turn = message.turn
            self._play_at = self._sent_ms = 0.0
            self._not_before = now + self._settings.start_gap
            self._output.send(message)
        elif message.state is TtsState.SENTENCE_START:
            self._speaking = True
            self._output.send(message)
        else:
            self._turn = None
            self._output.send(message)
            played = round(self._sent_ms)
            self._output.report(Playback(message.turn, PlaybackState.FINISHED, played))


def _announces(item: Tts | Audio) -> bool:
    return isinstance(item, Tts) and item.state is TtsState.SENTENCE_START


def _begins(item: Tts | Audio) -> bool:
    return isinstance(item, Tts) and item.state is TtsState.START
