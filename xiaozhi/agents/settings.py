"""Settings of sessions. Times are in seconds unless a name says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import replace

from xiaozhi.tools.settings import McpSettings

Seconds = Annotated[float, Meta(ge=0, le=3600)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Pixels = Annotated[int, Meta(ge=1, le=1 << 30)]


class Detector(Enum):
    """How the end of an utterance is detected."""

    DELAY = "delay"
    TEXT = "text"


def _several(texts: str | tuple[str, ...]) -> tuple[str, ...]:
    """One or more, without empty ones."""
    return tuple(text for text in ((texts,) if isinstance(texts, str) else texts) if text.strip())


class ListenSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When an utterance begins and ends, in seconds of sound.

    :ivar pre_roll: sound kept from before speech was noticed.
    :ivar start: voiced sound within ``start_window`` that makes it speech.
    :ivar detector: ``delay``: ``end_silence`` ends an utterance. ``text``: what has been
        understood so far is looked at, too, if the recogniser tells; see the next three.
    :ivar end_silence: silence that ends an utterance.
    :ivar min_delay: silence that ends one that sounds finished, with ``text``.
    :ivar max_delay: silence that ends one that sounds unfinished, with ``text``.
    :ivar min_speech: voiced sound below this was a noise.
    :ivar max_utterance: longer utterances are ended.
    :ivar stalled: an utterance whose sound stops coming for this long (by the
        clock) is ended.
    :ivar barge_in: voiced sound that pauses an answer in realtime mode.
    :ivar pause: longest pause (by the clock): then who still speaks interrupts it, and
        otherwise it goes on.
    """

    pre_roll: Seconds = 0.3
    start: Seconds = 0.1
    start_window: Seconds = 0.2
    detector: Detector = Detector.DELAY
    end_silence: Seconds = 0.7
    min_delay: Seconds = 0.4
    max_delay: Seconds = 1.6
    min_speech: Seconds = 0.2
    max_utterance: Seconds = 30.0
    stalled: Seconds = 1.5
    barge_in: Seconds = 0.2
    pause: Annotated[float, Meta(ge=0.1, le=60)] = 8.0

    def __post_init__(self) -> None:
        # Otherwise nothing would ever be speech.
        if not (self.start <= self.start_window and self.min_speech <= self.max_utterance):
            raise ValueError("needs start <= start_window and min_speech <= max_utterance")
        if self.min_delay > self.max_delay:
            raise ValueError("needs min_delay <= max_delay")


class IdleSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When nobody says anything any more.

    :ivar no_speech: seconds that a device listens without a word; then the session
        ends; 0: never.
    :ivar farewell: whether it says goodbye before.
    :ivar keep: ids of devices whose sessions stay.
    """

    no_speech: Seconds = 120.0
    farewell: bool = True
    keep: frozenset[str] = frozenset()


class WakeSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Texts that a ``listen detect`` may carry besides typed text (§4.1).

    :ivar words: texts that are wake words; compared without case, space and
        punctuation. Any other text is answered as if it had been said.
    :ivar tail: seconds of sound right behind one that may still be its end, and are not
        listened to.
    :ivar greeting: what is said to a wake word; several are said in turn; empty: nothing.
    """

    words: tuple[str, ...] = (
        "你好小智",
        "小智小智",
        "你好小鑫",
        "嘿你好呀",
        "hi esp",
        "hey jarvis",
        "alexa",
        "computer",
    )
    tail: Seconds = 0.3
    greeting: str | tuple[str, ...] = ""

    @property
    def greetings(self) -> tuple[str, ...]:
        """All there are."""
        return _several(self.greeting)


class TurnSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of one answer. Those of its stages are what one provider may take; where
    several are named, the last one: see :meth:`of_lists`.

    :ivar recognize: from the end of speech to the text.
    :ivar first_token: from asking the model to its first output.
    :ivar next_token: between two outputs of the model.
    :ivar first_audio: from asking the synthesiser to its first bytes.
    :ivar next_audio: between two pieces of a sentence's sound.
    :ivar bridge: after this time without any sound of the answer, a bridging phrase plays,
        once per turn; 0: never.
    :ivar echo: seconds after the device's own sound in which an utterance may be its echo:
        if it cannot be recognised, and the one before could not either, nothing is said;
        twice as long each time until words are understood; 0: never.
    :ivar tool: one tool call, except where the tool says otherwise; a picture.
    :ivar playback: how much later than expected the edge may report the end.
    :ivar whole: the whole turn without its playback.
    :ivar tools_at_once: tool calls of one reply that run beside each other.
    :ivar slow_tool: a tool that takes longer than this, with nothing said before, is
        bridged by a phrase; 0: never.
    :ivar tool_rounds: how often the model may ask for tools before it must answer.
    :ivar tool_result: characters of a tool's result that the model gets.
    :ivar tool_sound: seconds of a sound that a tool gives; the rest is not played.
    :ivar confirm: after the question whether a tool may run, in which a yes counts.
    :ivar look_ahead: sentences waiting for synthesis; the model waits beyond.
    """

    recognize: Seconds = 8.0
    first_token: Seconds = 10.0
    next_token: Seconds = 10.0
    first_audio: Seconds = 6.0
    next_audio: Seconds = 6.0
    bridge: Seconds = 3.0
    echo: Seconds = 3.0
    tool: Seconds = 30.0
    tools_at_once: Count = 4
    slow_tool: Seconds = 2.0
    playback: Seconds = 10.0
    whole: Seconds = 180.0
    tool_rounds: Count = 5
    tool_result: Count = 8000
    tool_sound: Seconds = 600.0
    confirm: Annotated[float, Meta(ge=1, le=600)] = 10.0
    look_ahead: Count = 4

    def of_lists(self, before: Mapping[str, float]) -> TurnSettings:
        """The limits of whole stages.

        :param before: seconds that the providers of a list may take before its last one
            is asked, by kind.
        """
        return replace(
            self,
            recognize=self.recognize + before.get("asr", 0.0),
            first_token=self.first_token + before.get("llm", 0.0),
            first_audio=self.first_audio + before.get("tts", 0.0),
        )


class DialogueSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The dialogue that the model receives.

    :ivar prompt: template of the system prompt, see :mod:`xiaozhi.agents.prompt`.
    :ivar location: the place of the devices, for the prompt; empty: omitted.
    :ivar memory: the part of the dialogue that the model receives. ``none``: the question
        alone; ``window``: the newest turns; ``summary``: the window and a summary of the
        earlier dialogue, which the model writes in the background.
    :ivar window: tokens of the dialogue the model receives, the running turn included, by
        the estimate of :func:`xiaozhi.languages.scripts.tokens`.
    :ivar entries: how many entries of it, at most.
    :ivar summary: tokens of the summary, likewise; longer ones are cut.
    :ivar summary_timeout: how long the model may take to write it; then it is asked
        again after a later turn.
    :ivar language: BCP 47, for what the server says by itself before the person
        has said anything.
    :ivar load_timeout: how long an answer waits for what was said in earlier
        sessions; what comes later than that serves the next answer.
    :ivar heard_timeout: how long is waited for the edge to say how much of an answer
        that was interrupted had been played; then our own clock tells.
    """

    prompt: str = (
        "{role} Answer in the person's language, in one to three short spoken sentences, without "
        "markup. It is {weekday}, {date}, {time}[ in {location}]."
    )
    location: str = ""
    memory: Literal["none", "window", "summary"] = "window"
    window: Annotated[int, Meta(ge=100, le=1_000_000)] = 4000
    entries: Annotated[int, Meta(ge=2, le=10_000)] = 200
    language: str = "en"
    load_timeout: Seconds = 1.0
    heard_timeout: Seconds = 0.3
    summary: Annotated[int, Meta(ge=20, le=100_000)] = 300
    summary_timeout: Seconds = 60.0


class RoleSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody the assistant may be.

    :ivar prompt: who that is: fills in ``{role}`` of the system prompt; the other
        placeholders may stand in it.
    :ivar description: when to take this role, for the model that is asked to change it.
    :ivar greeting: said to a wake word in place of ``session.wake.greeting``.
    :ivar aliases: other names that people call it by.
    """

    prompt: str
    description: str = ""
    greeting: str | tuple[str, ...] = ""
    aliases: tuple[str, ...] = ()

    @property
    def greetings(self) -> tuple[str, ...]:
        """All there are."""
        return _several(self.greeting)


class HistorySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dialogues that continue after a reconnect or a restart.

    :ivar url: ``sqlite:///path``, ``postgresql://user:password@host:port/database`` or
        ``memory:`` for this process only; empty: ``ai.sqlite3`` in the state directory.
    :ivar pool_size: connections to PostgreSQL.
    :ivar ttl: older dialogues are not continued; 0: every session begins a new one.
    :ivar retention: older entries are removed; 0: never. At least ``ttl``.
    :ivar purge_interval: between two rounds of removal.
    :ivar capacity: entries that may wait while the store is away; then the oldest of a
        device that has most are dropped.
    :ivar capacity_bytes: of them, about; beyond, likewise.
    :ivar max_entry_bytes: of one entry, in UTF-8; the rest is not kept.
    """

    url: str = ""
    pool_size: Annotated[int, Meta(ge=1, le=100)] = 2
    ttl: Annotated[float, Meta(ge=0, le=31_536_000)] = 3600.0
    retention: Annotated[float, Meta(ge=0, le=315_360_000)] = 86_400.0
    purge_interval: Annotated[float, Meta(ge=1, le=86_400)] = 600.0
    capacity: Annotated[int, Meta(ge=100, le=1_000_000)] = 10_000
    capacity_bytes: Annotated[int, Meta(ge=1_048_576, le=1 << 34)] = 33_554_432
    max_entry_bytes: Annotated[int, Meta(ge=1024, le=1_048_576)] = 65_536

    def __post_init__(self) -> None:
        if self.retention and self.retention < self.ttl:
            raise ValueError("needs retention >= ttl")


class SpeechSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How answers are encoded.

    :ivar application: what libopus works for. ``lowdelay`` is CELT alone, which sounds
        better than SILK for twice the bits and a quarter of the work; ``voip`` is for
        links on which bits are dear.
    :ivar complexity: of the Opus encoder, 0 to 10.
    :ivar bitrate: bit/s.
    :ivar pause: silence after each sentence. Some is needed at the very end: the
        encoder runs up to 6.5 ms ahead, and what it holds would be cut off.
    :ivar ahead: sentences synthesised while another is sent.
    :ivar ahead_bytes: of a synthesiser's sound that may wait, per sentence; the
        synthesiser waits beyond.
    :ivar rehearse: what the server says by itself is spoken at the start and kept, so
        that an apology can be heard while the synthesiser is down.
    """

    application: Literal["voip", "audio", "lowdelay"] = "lowdelay"
    complexity: Annotated[int, Meta(ge=0, le=10)] = 8
    bitrate: Annotated[int, Meta(ge=6000, le=128000)] = 40000
    pause: Annotated[float, Meta(ge=0.01, le=2)] = 0.12
    ahead: Annotated[int, Meta(ge=0, le=8)] = 1
    ahead_bytes: Annotated[int, Meta(ge=4096, le=1 << 26)] = 262_144
    rehearse: bool = True


class AnnounceSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When what others have posted is said.

    :ivar ready: longest wait, after an answer, for a device in auto mode to say that it
        listens again.
    :ivar again: quiet time after the person wanted silence, before anything is announced.
    :ivar tries: how often one announcement is begun, if it is cut short each time.
    """

    ready: Annotated[float, Meta(ge=0, le=60)] = 1.0
    again: Annotated[float, Meta(ge=0, le=600)] = 5.0
    tries: Annotated[int, Meta(ge=1, le=100)] = 3


class SessionSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything about a session.

    :ivar roles: who the assistant may be, by name; people change it by asking.
    :ivar role: who it is until they do.
    :ivar device_roles: the same for some devices, by device id.
    :ivar max_pixels: width × height of a picture sent as a message.
    :ivar announcements: what the session was asked to say (by POST) and has not begun
        to; more is refused.
    """

    listen: ListenSettings = ListenSettings()
    wake: WakeSettings = WakeSettings()
    idle: IdleSettings = IdleSettings()
    turn: TurnSettings = TurnSettings()
    dialogue: DialogueSettings = DialogueSettings()
    mcp: McpSettings = McpSettings()
    speech: SpeechSettings = SpeechSettings()
    roles: dict[str, RoleSettings] = field(
        default_factory=lambda: {
            "xiaozhi": RoleSettings(prompt="You are XiaoZhi, a friendly voice assistant.")
        }
    )
    role: str = "xiaozhi"
    device_roles: dict[str, str] = {}
    max_pixels: Pixels = 40_000_000
    announcements: Annotated[int, Meta(ge=1, le=1000)] = 16
    announce: AnnounceSettings = AnnounceSettings()
