"""Every seam of the program.

Whoever reads this knows what the parts are and what they owe each other; the
two ``tap`` modules say which implementation stands where. One-shot operations
return a ``Deferred``; streams are async generators, to be closed with
``contextlib.aclosing``; everything runs on the reactor's thread.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xiaozhi.ownership import Applicant, Claim, ClaimLimits, Registered, Unknown
from xiaozhi.values import (
    BridgeStatus,
    Delta,
    DeviceNote,
    DialogueEntry,
    EventLogged,
    LogRecord,
    MessageLogged,
    Picture,
    Presence,
    Receipt,
    Recollection,
    SessionRow,
    SoundFormat,
    ToolSpec,
    Transcript,
    Utterance,
)
from xiaozhi.wire.mail import Mail
from xiaozhi.wire.messages import Device, SessionOpen

T = TypeVar("T")


class Offload(Protocol):
    """Runs a function that takes more than a millisecond away from the reactor.

    In production a thread pool; in tests the calling thread.
    """

    def __call__(self, function: Callable[..., T], /, *args: Any) -> Deferred[T]: ...


class TimedOffload(Protocol):
    """An :class:`Offload` that is told in how many ``seconds`` the result is wanted: what
    is wanted first has its turn first."""

    def __call__(
        self, seconds: float, function: Callable[..., T], /, *args: Any
    ) -> Deferred[T]: ...


# --- the bridge between the services -------------------------------------------------


class ISessionLink(Interface):
    """What one holds to talk to the other side of a session."""

    dropped = Attribute("Messages of ours that were dropped so far, by reason.")
    sequence: int = Attribute(
        "Number of the last message sent; with the session's id before it, the message's id."
        " While messages wait: the number it will have if none of them is dropped."
    )

    def send(message: Any) -> None:
        """Send an ``Uplink`` from the edge, a ``Downlink`` from the AI service.

        In order, and once: what a broken stream has swallowed is sent again. Never
        blocks, never raises for a peer's fault.

        While the other side is away messages wait, bounded: audio by age,
        the rest by number; what is dropped is counted and reported.
        """

    def retract(unwanted: Callable[[Any], bool]) -> None:
        """Take messages back, as far as the other side has not received them.

        What it is not known to have received is not sent again; if it was received
        all the same, that stays so.

        :param unwanted: says which, of those that are not acknowledged.
        """

    def close(code: str, message: str) -> None:
        """End the session on both sides. Idempotent; nothing is received after."""

    def pause() -> None:
        """Take in no more audio than was granted to the other side already."""

    def resume() -> None:
        """Take :meth:`pause` back."""


class ISessionEvents(Interface):
    """What one is told by the other side of a session, in order, on the reactor."""

    def received(message: Any) -> None:
        """A message came: an ``Uplink`` at the AI service, a ``Downlink`` at the edge."""

    def pause_sending() -> None:
        """The other side takes little more audio: hold it back."""

    def resume_sending() -> None:
        """The other side can take audio again."""

    def interrupted() -> None:
        """At the edge only: the AI process was lost, and the running turn will not
        go on; or it stops and there is no other. The link stays usable and the
        session comes back by itself."""

    def restored() -> Sequence[Any]:
        """At the edge only: another AI process is about to take the session over.

        :return: the ``Uplink`` messages it must be told first to know what the
            device is doing.
        """

    def draining() -> None:
        """At the AI service only: the process stops soon. Close the link with the
        code ``moving`` as soon as nothing is going on."""

    def closed(code: str, message: str) -> None:
        """The other side ended the session; nothing follows."""


class IBridge(Interface):
    """The edge's way to AI sessions."""

    available: bool = Attribute("Whether an AI process would take a new session now.")

    def open(opening: SessionOpen, events: ISessionEvents) -> ISessionLink:
        """Open a session. Returns at once; messages wait if the AI is away."""

    def status() -> BridgeStatus:
        """How the bridge is."""


class ISessionAcceptor(Interface):
    """The AI service's side: makes a session when the edge opens one."""

    def accept(opening: SessionOpen, link: ISessionLink) -> ISessionEvents:
        """:param link: stays valid until ``closed`` is called on the result."""


# --- the edge -------------------------------------------------------------------------


class IDeviceTransport(Interface):
    """A device's socket."""

    def send_text(text: str) -> None:
        """Send one JSON text."""

    def send_binary(data: bytes) -> None:
        """Send one framed Opus packet."""

    def close(code: int, reason: str) -> None:
        """Send a Close frame and drop TCP soon after: devices do not echo it (§1.1)."""

    def ping() -> None:
        """Send a WebSocket ping."""

    def pause() -> None:
        """Stop reading from the socket."""

    def resume() -> None:
        """Read again."""


class IAuthenticator(Interface):
    """Decides who may connect."""

    def authenticate(token: str | None, device_id: str, client_id: str) -> Device:
        """:param token: as sent, with or without ``Bearer``.
        :raises AuthError: refused, with the HTTP status to answer.
        """


class IDeviceTokens(Interface):
    """Makes the tokens an :class:`IAuthenticator` takes."""

    def issue(device: Device, scope: str, ttl: float) -> str:
        """:param scope: ``device`` for the WebSocket, ``vision`` for picture upload.
        :param ttl: seconds.
        """

    def verify(token: str | None, device_id: str, scope: str) -> Device:
        """:raises AuthError:"""


class ISessionStore(Interface):
    """The session, message and event log. Every method is one transaction."""

    def start() -> Deferred[None]:
        """Connect, create or upgrade the schema.

        :raises StoreError: naming the address and what to do.
        """

    def stop() -> Deferred[None]:
        """Close every connection."""

    def append(records: Sequence[LogRecord]) -> Deferred[None]:
        """Write in order, all or nothing. A record written before is skipped,
        so a batch whose outcome is unknown can be written again.

        :raises StoreError:
        """

    def session(session_id: str) -> Deferred[SessionRow | None]:
        """One session."""

    def sessions_of(device_id: str, limit: int) -> Deferred[list[SessionRow]]:
        """A device's sessions, newest first."""

    def messages(session_id: str, limit: int) -> Deferred[list[MessageLogged]]:
        """A session's messages in the order they were logged."""

    def events(session_id: str, limit: int) -> Deferred[list[EventLogged]]:
        """A session's events in the order they were logged."""

    def purge(before: datetime, limit: int) -> Deferred[int]:
        """Remove what is older: messages and events, and sessions that are over and
        that none of these refers to. Several processes may ask for it: one does it.

        :return: how many rows are gone; fewer than ``limit``: no more are to be had.
        """

    def close_left(
        node: str, started: datetime, silent_since: datetime, limit: int
    ) -> Deferred[int]:
        """Mark sessions as disconnected that a process has left behind: those of a
        node from before it was started, and any that have been silent for long.

        :return: how many; fewer than ``limit``: no more are left.
        """


class ISpool(Interface):
    """Log records on disk while the session store is away, oldest first."""

    count = Attribute("How many there are.")
    octets = Attribute("How much room they take.")
    oldest = Attribute("The time of the first one, or None.")

    def start() -> Deferred[None]:
        """Open it, with what an earlier process has left.

        :raises StoreError: it cannot be had; may be tried again.
        """

    def stop() -> Deferred[None]:
        """Close it; what it holds stays."""

    def put(records: Sequence[LogRecord], after: int = 0) -> Deferred[int]:
        """Add at the end. With no room left the oldest messages and events are
        dropped, and rows of sessions only when there is nothing else.

        :param after: what is numbered up to this is being written and stays.
        :return: how many were dropped, or cannot be kept.
        :raises StoreError: nothing was added; ``spool_broken``: see :meth:`renew`.
        """

    def take(limit: int) -> Deferred[list[tuple[int, LogRecord | None]]]:
        """The oldest, with their numbers; None for what cannot be read. They stay
        until they are discarded."""

    def discard(through: int) -> Deferred[None]:
        """Remove all up to this number."""

    def renew() -> Deferred[int]:
        """Put what is broken aside and begin anew. :return: how many are lost."""


class IDeviceRegistry(Interface):
    """Which client each device id is bound to, shared by all processes. Every method is
    one transaction; all raise StoreError."""

    def start() -> Deferred[None]:
        """Connect, create or upgrade the schema; may be tried again after a failure."""

    def stop() -> Deferred[None]:
        """Close every connection."""

    def changes(after: int, limit: int) -> Deferred[list[Registered]]:
        """Devices whose revision is greater than ``after``, in its order. None is
        skipped: revisions become visible in order."""

    def apply(
        who: Applicant, unknown: Unknown, limits: ClaimLimits, at: datetime
    ) -> Deferred[Registered | Claim | None]:
        """Ask for a device id.

        Who holds it gets it, and its serial number is noted if none was known. For an id
        that nobody holds ``unknown`` says what happens. Anybody else gets a claim, the
        same while it lives, which changes nothing for the holder.

        :return: None: an id that nobody holds was refused.
        :raises StoreError: ``registry_full``: as many devices are known as may be.
        """

    def approve(code: str, at: datetime) -> Deferred[Registered]:
        """Give a device id to the claim with this code.

        :raises StoreError: ``no_such_code``: there is none, or no longer; ``no_client_id``:
            it names no client that the id could be bound to.
        """

    def revoke(device_id: str, at: datetime) -> Deferred[Registered]:
        """Take a device id away from whoever holds it, or may have a token for it."""

    def seen(devices: Mapping[str, bool], at: datetime) -> Deferred[None]:
        """Note that devices have asked for their configuration, or (True) opened a session."""

    def devices(limit: int) -> Deferred[list[Registered]]:
        """The devices seen last, newest first."""

    def claims(at: datetime, limit: int) -> Deferred[list[Claim]]:
        """The claims that live, newest first."""

    def purge(unused_before: datetime, at: datetime, limit: int) -> Deferred[int]:
        """Remove devices that never opened a session since a time, and dead claims.

        :return: how many; fewer than ``limit``: no more are to be had.
        """


class IDialogueStore(Interface):
    """What devices and the assistant said to each other, for as long as a talk may
    be continued. Entries are added and removed, never changed: whoever still
    writes for an old session cannot damage what a new one has written."""

    def start() -> Deferred[None]:
        """Connect, create or upgrade the schema.

        :raises StoreError: naming the address and what to do; may be tried again.
        """

    def stop() -> Deferred[None]:
        """Close every connection."""

    def append(entries: Sequence[DialogueEntry | DeviceNote]) -> Deferred[None]:
        """Add them behind all there are, all or nothing. An entry added before is
        skipped, so a batch whose outcome is unknown can be written again. A note takes
        the place of those of its kind that the device has.

        :raises StoreError: ``store_rejected``: one of them cannot be kept.
        """

    def latest(device_id: str, limit: int, since: datetime) -> Deferred[list[DialogueEntry]]:
        """A device's newest entries in the order they were added.

        :param since: none that is older.
        :raises StoreError:
        """

    def notes(device_id: str) -> Deferred[list[DeviceNote]]:
        """A device's newest note of each kind.

        :raises StoreError:
        """

    def forget(device_id: str) -> Deferred[None]:
        """Remove all of a device's."""

    def purge(before: datetime, limit: int) -> Deferred[int]:
        """Remove the oldest entries and summaries of those before a time, at most
        ``limit`` of them. Roles stay: they tell nothing of a person.

        :return: how many; fewer than ``limit``: no more are to be had.
        """


class IMemory(Interface):
    """What of a talk a model is told besides the running turn; one for each session."""

    capacity = Attribute("Entries of earlier sessions that are worth being loaded; may be 0.")

    def recall(entries: Sequence[DialogueEntry], summary: DeviceNote | None) -> None:
        """What was said in earlier sessions: before all that was noted.

        :param summary: of some of it, or of what was said before.
        """

    def note(entries: Sequence[DialogueEntry], language: str) -> None:
        """A turn is over: its question and what came of it, in order.

        :param language: BCP 47, that was spoken.
        """

    def before(running: Sequence[Utterance]) -> Recollection:
        """What the model is told before the running turn. It begins with the person's
        words and has whole tool exchanges, and never grows beyond a bound."""

    def close() -> None:
        """The session is over: what is under way ends."""


class IFileStore(Interface):
    """Files that are kept for a while: phrases that have been spoken once, recordings,
    pictures. Each area has a bound of its own by age and by total size; what is
    oldest goes first."""

    def put(area: str, key: str, data: bytes) -> Deferred[str]:
        """Keep a file. It is there whole or not at all; one of that key is replaced.

        :param area: one of the areas the store was made with.
        :param key: any text; it is not the file's name, nor part of it.
        :return: the file's name within its area.
        :raises StoreError: it cannot be kept.
        """

    def writer(area: str) -> IFileWriter:
        """A new file that grows; its name tells when it was begun, and nothing else."""

    def get(area: str, key: str) -> Deferred[bytes | None]:
        """What was kept under a key, if it is still there.

        :raises StoreError:
        """


class IFileWriter(Interface):
    """A file that grows."""

    def write(data: bytes) -> Deferred[None]:
        """Add at its end, behind what was written before.

        :raises StoreError:
        """

    def close() -> Deferred[None]:
        """It is complete: from now on it is there. One that a process has left open is
        removed by and by.

        :raises StoreError:
        """


class IPresence(Interface):
    """Which device is connected where, across all edge processes.

    The newest claim wins, also between processes and whatever their clocks say
    (§9, 22 and 23).
    """

    def start() -> Deferred[None]:
        """:raises StoreError: naming the address."""

    def stop() -> Deferred[None]:
        """Forget this node's claims and disconnect."""

    def claim(presence: Presence, replaced: Callable[[], None]) -> Deferred[Presence | None]:
        """Take a device over.

        :param replaced: called once if another session claims the device later.
        :return: whom this replaced.
        """

    def release(device_id: str, session_id: str) -> Deferred[None]:
        """The session ended. Does nothing if another one holds the device."""

    def lookup(device_id: str) -> Deferred[Presence | None]:
        """Where the device is, if anywhere."""


class IDeviceInbox(Interface):
    """Reaches a device wherever it is connected, or at its next connection."""

    def post(device_id: str, mail: Mail, ttl: float) -> Deferred[Receipt]:
        """Send now, or keep. In order per device, and once.

        :param ttl: seconds to keep it for a device that is not connected; 0: not at all.
        :raises StoreError: ``inbox_full`` or ``inboxes_full``: as much is kept already as
            may be, for the device or in all; ``presence_unavailable``.
        """


class IInboxReader(Interface):
    """The edge's side of an :class:`IDeviceInbox`: who has which device."""

    def attach(device_id: str, session_id: str, deliver: Callable[[Mail], bool]) -> None:
        """A session can be spoken to, and has claimed its device.

        :param deliver: is given what is kept for the device, and from now on what is
            posted to it. False: it cannot be sent after all, and stays kept.
        """

    def detach(device_id: str, session_id: str) -> None:
        """The session is over. Idempotent; does nothing to another one's."""


# --- providers --------------------------------------------------------------------------


class IProvider(Interface):
    """What all providers have in common."""

    def close() -> Deferred[None]:
        """Release processes and connections; running calls fail."""


class IPreparable(Interface):
    """A provider that can get ready ahead of its first call."""

    def prepare() -> None:
        """The service has started: start child processes and the like."""


class IOfModel(Interface):
    """A provider whose vendor has several models."""

    model = Attribute("The vendor's name for the one that answers; for figures and logs.")


class IAdaptive(Interface):
    """A provider that goes without what its vendor turned out to refuse."""

    refused = Attribute("What that is, a sequence of words for people: ``tools``.")


class IVoiceActivityDetector(IProvider):
    """Tells speech from the rest."""

    def detector() -> IVoiceActivity:
        """One for a session; it may keep state between frames."""


class IVoiceActivity(Interface):
    """Voice activity over one stream of sound."""

    def is_speech(pcm: bytes) -> bool:
        """:param pcm: 20 ms, s16le mono at 16 kHz: 640 bytes."""


class IRecognizer(IProvider):
    """ASR: speech to text."""

    def recognition(interim: Callable[[str], None] | None = None) -> IRecognition:
        """Start one utterance.

        :param interim: is given what has been understood so far, each time that it is
            something else, until ``finish`` or ``cancel``. A recogniser that only
            understands whole utterances never calls it.
        """


class ITurnDetector(Interface):
    """Decides when somebody who speaks has finished; one for a session."""

    def begin() -> None:
        """An utterance begins."""

    def understood(text: str) -> None:
        """What has been understood of it so far, if its recogniser tells."""

    def over(silence: float) -> bool:
        """Whether it is over.

        :param silence: seconds of sound since its last voice; asked every 20 ms.
        """


class IRecognition(Interface):
    """One utterance being recognised."""

    def feed(pcm: bytes) -> None:
        """More sound: s16le mono at 16 kHz, any length. Never blocks."""

    def finish() -> Deferred[Transcript]:
        """The utterance is over.

        :raises ProviderError: through the Deferred. Cancelling it is :meth:`cancel`.
        """

    def cancel() -> None:
        """Throw it away. Idempotent, also after :meth:`finish`."""


class ILanguageModel(IProvider):
    """LLM: the next thing to say, or the tools to run first."""

    def reply(
        dialogue: Sequence[Utterance], tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[Delta, None]:
        """Continue a dialogue whose last entry is the person's or a tool's.

        Closing the generator ends the vendor's request.

        :raises ProviderError: while iterating.
        """


class ISynthesizer(IProvider):
    """TTS: text to speech."""

    sound = Attribute(
        "The :class:`~xiaozhi.values.SoundFormat` of what comes out, unless a stream says another."
    )

    def synthesize(text: str, language: str) -> AsyncGenerator[bytes | SoundFormat, None]:
        """Speak one sentence, in pieces as they become ready.

        A format may come before the first piece, together with it: then this sentence
        is in that one. So do synthesisers that stand for several.

        :param language: BCP 47; empty: tell by the text.
        :raises ProviderError: while iterating.
        """


class IVisionModel(IProvider):
    """VLLLM: words about a picture."""

    def describe(picture: Picture, question: str) -> Deferred[str]:
        """:raises ProviderError: through the Deferred."""


class IProviderMaker(Interface):
    """A provider that can be chosen in the configuration: a ``twisted.plugin``."""

    kind = Attribute("``asr``, ``llm``, ``tts``, ``vlllm`` or ``vad``.")
    name = Attribute("What ``selected`` and the section ``providers`` call it.")
    description = Attribute("One line for people.")

    def settings() -> type[Any]:
        """The ``msgspec.Struct`` its section is read into."""

    def make(settings: Any, runtime: ProviderRuntime) -> IProvider:
        """Import what is needed and build it; nothing is started before use.

        :raises ConfigError: e.g. an optional package is missing, and how to get it.
        """


class ProviderRuntime(Protocol):
    """What providers may use of the process they live in.

    :ivar reactor: clock, processes and TCP.
    :ivar offload: for work that would hold up the reactor.
    """

    @property
    def reactor(self) -> Any: ...
    @property
    def offload(self) -> Offload: ...


# --- tools ---------------------------------------------------------------------------------


class ITool(Interface):
    """Something the assistant can do."""

    spec = Attribute("The :class:`~xiaozhi.values.ToolSpec` the model is offered.")
    limit = Attribute("Seconds a call may take; None: as long as the turn's settings say.")
    lane = Attribute(
        "Calls of tools with the same one run one after the other; empty: beside any other."
    )
    interruptible = Attribute(
        "Whether a call may be cancelled; otherwise it runs to its end, its result unheard."
    )

    def call(arguments: dict[str, Any]) -> Awaitable[str]:
        """Do it.

        :return: the result as the model is to read it.
        :raises ToolError: what went wrong, in words the model can pass on.
        """
