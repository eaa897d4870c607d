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
    """Return the texts that are not empty."""
    return tuple(text for text in ((texts,) if isinstance(texts, str) else texts) if text.strip())


class ListenSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Detection of utterances, in seconds of sound.

    :ivar pre_roll: sound kept from before speech was detected.
    :ivar start: voice within ``start_window`` that makes it speech.
    :ivar detector: ``delay``: ``end_silence`` ends an utterance. ``text``: the interim text
        decides, too, if the recogniser has one; see the next three.
    :ivar end_silence: silence that ends an utterance.
    :ivar min_delay: with ``text``: silence that ends one that sounds finished.
    :ivar max_delay: with ``text``: silence that ends one that sounds unfinished.
    :ivar min_speech: an utterance with less voice is noise.
    :ivar max_utterance: maximum length; then the utterance is ended.
    :ivar stalled: an utterance whose sound stops arriving for this long (by the clock) is
        ended.
    :ivar barge_in: voice that pauses an answer in realtime mode.
    :ivar pause: maximum pause (by the clock): then ongoing speech interrupts the answer, and
        otherwise the answer resumes.
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
        # Otherwise speech would never be detected.
        if not (self.start <= self.start_window and self.min_speech <= self.max_utterance):
            raise ValueError("needs start <= start_window and min_speech <= max_utterance")
        if self.min_delay > self.max_delay:
            raise ValueError("needs min_delay <= max_delay")


class IdleSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """End of a session in which nobody speaks.

    :ivar no_speech: seconds that a device listens without speech until the session ends; 0:
        never.
    :ivar farewell: whether the assistant says goodbye first.
    :ivar keep: ids of devices whose sessions do not end.
    """

    no_speech: Seconds = 120.0
    farewell: bool = True
    keep: frozenset[str] = frozenset()


class WakeSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Wake words, which ``listen detect`` carries besides typed text (§4.1).

    :ivar words: texts that are wake words; compared without case, space and punctuation. Any
        other text is answered like speech.
    :ivar tail: seconds of sound after a wake word that are ignored, as they may contain its end.
    :ivar greeting: answer to a wake word; several alternate; empty: none.
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
    """Limits of one answer. The limit of a stage applies to one provider, in a failover group
    to the last one: see :meth:`of_lists`.

    :ivar recognize: from the end of speech to the transcript.
    :ivar first_token: from the request to the model to its first output.
    :ivar next_token: between two outputs of the model.
    :ivar first_audio: from the request to the synthesiser to its first bytes.
    :ivar next_audio: between two pieces of a sentence's sound.
    :ivar bridge: after this time without any sound of the answer, a bridging phrase plays,
        once per turn; 0: never.
    :ivar echo: seconds after the device's own sound in which an utterance may be its echo. If
        recognition of it and of the previous one failed, nothing is said. The time doubles
        with each failure until words are recognised; 0: never.
    :ivar tool: one tool call, unless the tool has its own limit; a description of a picture.
    :ivar playback: how much later than expected the edge may report the end.
    :ivar whole: the whole turn without its playback.
    :ivar tools_at_once: maximum parallel tool calls of one reply.
    :ivar slow_tool: after this time, a phrase bridges a tool call if the answer has no words
        yet; 0: never.
    :ivar tool_rounds: replies with tool calls after which the model must answer.
    :ivar tool_result: maximum characters of a tool's result for the model.
    :ivar tool_sound: maximum seconds of a tool's sound; the rest is not played.
    :ivar confirm: time after the question for a spoken confirmation in which a yes counts.
    :ivar look_ahead: maximum sentences that wait for synthesis; beyond that, the model waits.
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
        """Return the limits of whole stages, extended for failover groups.

        :param before: by kind, the maximum seconds before the last provider of a list is
            asked.
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
    :ivar window: maximum tokens of the dialogue for the model, including the running turn, by
        the estimate of :func:`xiaozhi.languages.scripts.tokens`.
    :ivar entries: maximum entries of the dialogue for the model.
    :ivar summary: maximum tokens of the summary; longer ones are cut.
    :ivar summary_timeout: timeout of the model for a summary; after a later turn it is
        requested again.
    :ivar language: BCP 47, for the service's own words until the person has spoken.
    :ivar load_timeout: how long an answer waits for the dialogue of earlier sessions; if it
        arrives later, it serves the next answer.
    :ivar heard_timeout: how long to wait for the edge to report the played part of an
        interrupted answer; after that, our own clock decides.
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
    """A role of the assistant.

    :ivar prompt: description of the role: ``{role}`` of the system prompt; may contain the
        other placeholders.
    :ivar description: when to use the role, for the model.
    :ivar greeting: answer to a wake word instead of ``session.wake.greeting``.
    :ivar aliases: other names that people use for it.
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
    :ivar ttl: age up to which a dialogue is continued; 0: every session begins a new one.
    :ivar retention: age at which entries are removed; 0: never. At least ``ttl``.
    :ivar purge_interval: seconds between two purges.
    :ivar capacity: maximum entries that wait for the store; beyond that, the oldest entry of
        the device with the most is dropped.
    :ivar capacity_bytes: maximum estimated bytes of these; the same policy applies.
    :ivar max_entry_bytes: maximum UTF-8 bytes of one entry; the rest is not kept.
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
    """Synthesis and encoding of answers.

    :ivar application: mode of libopus. ``lowdelay`` is CELT only, which sounds better than
        SILK at twice the bitrate and a quarter of the CPU time; ``voip`` is for links with
        little bandwidth.
    :ivar complexity: of the Opus encoder, 0 to 10.
    :ivar bitrate: bit/s.
    :ivar pause: silence after each sentence. Some is necessary at the end: the encoder has a
        delay of up to 6.5 ms, and that much sound would be cut off.
    :ivar ahead: sentences that are synthesised while another is sent.
    :ivar ahead_bytes: maximum buffered sound per sentence; beyond that, the synthesiser waits.
    :ivar rehearse: prewarm phrases at the start, so that an apology is audible while the
        synthesiser is down.
    """

    application: Literal["voip", "audio", "lowdelay"] = "lowdelay"
    complexity: Annotated[int, Meta(ge=0, le=10)] = 8
    bitrate: Annotated[int, Meta(ge=6000, le=128000)] = 40000
    pause: Annotated[float, Meta(ge=0.01, le=2)] = 0.12
    ahead: Annotated[int, Meta(ge=0, le=8)] = 1
    ahead_bytes: Annotated[int, Meta(ge=4096, le=1 << 26)] = 262_144
    rehearse: bool = True


class AnnounceSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Timing of announcements.

    :ivar ready: maximum wait, after an answer, until a device in auto mode reports that it
        listens again.
    :ivar again: quiet time before an announcement after the person has interrupted.
    :ivar tries: attempts at one announcement if it is cut short each time.
    """

    ready: Annotated[float, Meta(ge=0, le=60)] = 1.0
    again: Annotated[float, Meta(ge=0, le=600)] = 5.0
    tries: Annotated[int, Meta(ge=1, le=100)] = 3


class SessionSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of a session.

    :ivar roles: roles by name; people switch by asking.
    :ivar role: the first role.
    :ivar device_roles: the first role of some devices, by device id.
    :ivar max_pixels: maximum width × height of a picture sent as a message.
    :ivar announcements: maximum queued announcements; more are dropped.
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
