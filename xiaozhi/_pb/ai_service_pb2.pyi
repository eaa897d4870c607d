from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MessageType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MESSAGE_TYPE_UNSPECIFIED: _ClassVar[MessageType]
    MESSAGE_TYPE_HELLO: _ClassVar[MessageType]
    MESSAGE_TYPE_LISTEN: _ClassVar[MessageType]
    MESSAGE_TYPE_CHAT: _ClassVar[MessageType]
    MESSAGE_TYPE_ABORT: _ClassVar[MessageType]
    MESSAGE_TYPE_MCP: _ClassVar[MessageType]
    MESSAGE_TYPE_VISION: _ClassVar[MessageType]
    MESSAGE_TYPE_IMAGE: _ClassVar[MessageType]
    MESSAGE_TYPE_IOT: _ClassVar[MessageType]
    MESSAGE_TYPE_PING: _ClassVar[MessageType]
    MESSAGE_TYPE_GOODBYE: _ClassVar[MessageType]
    MESSAGE_TYPE_AUDIO: _ClassVar[MessageType]
    MESSAGE_TYPE_OTHER: _ClassVar[MessageType]
    MESSAGE_TYPE_SAY: _ClassVar[MessageType]
    MESSAGE_TYPE_LEAVE: _ClassVar[MessageType]
    MESSAGE_TYPE_PLAYBACK: _ClassVar[MessageType]
    MESSAGE_TYPE_CLOSE: _ClassVar[MessageType]
    MESSAGE_TYPE_ACK: _ClassVar[MessageType]
    MESSAGE_TYPE_RESUME: _ClassVar[MessageType]
    MESSAGE_TYPE_SKIP: _ClassVar[MessageType]
    MESSAGE_TYPE_BATCH: _ClassVar[MessageType]
    MESSAGE_TYPE_STREAM_OPEN: _ClassVar[MessageType]
    MESSAGE_TYPE_HEARTBEAT: _ClassVar[MessageType]

class ResponseType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESPONSE_TYPE_UNSPECIFIED: _ClassVar[ResponseType]
    RESPONSE_TYPE_TEXT: _ClassVar[ResponseType]
    RESPONSE_TYPE_AUDIO: _ClassVar[ResponseType]
    RESPONSE_TYPE_IMAGE: _ClassVar[ResponseType]
    RESPONSE_TYPE_ERROR: _ClassVar[ResponseType]
    RESPONSE_TYPE_STATUS: _ClassVar[ResponseType]
    RESPONSE_TYPE_MCP: _ClassVar[ResponseType]
    RESPONSE_TYPE_IOT: _ClassVar[ResponseType]
    RESPONSE_TYPE_OTHER: _ClassVar[ResponseType]
    RESPONSE_TYPE_FLUSH: _ClassVar[ResponseType]
    RESPONSE_TYPE_PAUSE: _ClassVar[ResponseType]
    RESPONSE_TYPE_CLOSE: _ClassVar[ResponseType]
    RESPONSE_TYPE_ACK: _ClassVar[ResponseType]
    RESPONSE_TYPE_OPENED: _ClassVar[ResponseType]
    RESPONSE_TYPE_SKIP: _ClassVar[ResponseType]
    RESPONSE_TYPE_LANGUAGE: _ClassVar[ResponseType]
    RESPONSE_TYPE_BATCH: _ClassVar[ResponseType]
    RESPONSE_TYPE_STREAM_OPEN: _ClassVar[ResponseType]
    RESPONSE_TYPE_HEARTBEAT: _ClassVar[ResponseType]
    RESPONSE_TYPE_DRAIN: _ClassVar[ResponseType]
MESSAGE_TYPE_UNSPECIFIED: MessageType
MESSAGE_TYPE_HELLO: MessageType
MESSAGE_TYPE_LISTEN: MessageType
MESSAGE_TYPE_CHAT: MessageType
MESSAGE_TYPE_ABORT: MessageType
MESSAGE_TYPE_MCP: MessageType
MESSAGE_TYPE_VISION: MessageType
MESSAGE_TYPE_IMAGE: MessageType
MESSAGE_TYPE_IOT: MessageType
MESSAGE_TYPE_PING: MessageType
MESSAGE_TYPE_GOODBYE: MessageType
MESSAGE_TYPE_AUDIO: MessageType
MESSAGE_TYPE_OTHER: MessageType
MESSAGE_TYPE_SAY: MessageType
MESSAGE_TYPE_LEAVE: MessageType
MESSAGE_TYPE_PLAYBACK: MessageType
MESSAGE_TYPE_CLOSE: MessageType
MESSAGE_TYPE_ACK: MessageType
MESSAGE_TYPE_RESUME: MessageType
MESSAGE_TYPE_SKIP: MessageType
MESSAGE_TYPE_BATCH: MessageType
MESSAGE_TYPE_STREAM_OPEN: MessageType
MESSAGE_TYPE_HEARTBEAT: MessageType
RESPONSE_TYPE_UNSPECIFIED: ResponseType
RESPONSE_TYPE_TEXT: ResponseType
RESPONSE_TYPE_AUDIO: ResponseType
RESPONSE_TYPE_IMAGE: ResponseType
RESPONSE_TYPE_ERROR: ResponseType
RESPONSE_TYPE_STATUS: ResponseType
RESPONSE_TYPE_MCP: ResponseType
RESPONSE_TYPE_IOT: ResponseType
RESPONSE_TYPE_OTHER: ResponseType
RESPONSE_TYPE_FLUSH: ResponseType
RESPONSE_TYPE_PAUSE: ResponseType
RESPONSE_TYPE_CLOSE: ResponseType
RESPONSE_TYPE_ACK: ResponseType
RESPONSE_TYPE_OPENED: ResponseType
RESPONSE_TYPE_SKIP: ResponseType
RESPONSE_TYPE_LANGUAGE: ResponseType
RESPONSE_TYPE_BATCH: ResponseType
RESPONSE_TYPE_STREAM_OPEN: ResponseType
RESPONSE_TYPE_HEARTBEAT: ResponseType
RESPONSE_TYPE_DRAIN: ResponseType

class ChatRequest(_message.Message):
    __slots__ = ("message_id", "device_id", "type", "timestamp", "session_id", "sequence", "ack", "credit", "audio", "hello", "listen", "chat", "abort", "mcp", "vision", "image", "iot", "goodbye", "other", "say", "playback", "leave", "close", "batch", "stream", "heartbeat", "resume")
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    LISTEN_FIELD_NUMBER: _ClassVar[int]
    CHAT_FIELD_NUMBER: _ClassVar[int]
    ABORT_FIELD_NUMBER: _ClassVar[int]
    MCP_FIELD_NUMBER: _ClassVar[int]
    VISION_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    IOT_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    SAY_FIELD_NUMBER: _ClassVar[int]
    PLAYBACK_FIELD_NUMBER: _ClassVar[int]
    LEAVE_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    message_id: str
    device_id: str
    type: MessageType
    timestamp: int
    session_id: str
    sequence: int
    ack: int
    credit: int
    audio: Audio
    hello: SessionOpen
    listen: Listen
    chat: Chat
    abort: Abort
    mcp: Json
    vision: Vision
    image: Image
    iot: Json
    goodbye: Goodbye
    other: Other
    say: Say
    playback: Playback
    leave: Leave
    close: SessionClose
    batch: RequestBatch
    stream: StreamOpen
    heartbeat: Heartbeat
    resume: Resume
    def __init__(self, message_id: _Optional[str] = ..., device_id: _Optional[str] = ..., type: _Optional[_Union[MessageType, str]] = ..., timestamp: _Optional[int] = ..., session_id: _Optional[str] = ..., sequence: _Optional[int] = ..., ack: _Optional[int] = ..., credit: _Optional[int] = ..., audio: _Optional[_Union[Audio, _Mapping]] = ..., hello: _Optional[_Union[SessionOpen, _Mapping]] = ..., listen: _Optional[_Union[Listen, _Mapping]] = ..., chat: _Optional[_Union[Chat, _Mapping]] = ..., abort: _Optional[_Union[Abort, _Mapping]] = ..., mcp: _Optional[_Union[Json, _Mapping]] = ..., vision: _Optional[_Union[Vision, _Mapping]] = ..., image: _Optional[_Union[Image, _Mapping]] = ..., iot: _Optional[_Union[Json, _Mapping]] = ..., goodbye: _Optional[_Union[Goodbye, _Mapping]] = ..., other: _Optional[_Union[Other, _Mapping]] = ..., say: _Optional[_Union[Say, _Mapping]] = ..., playback: _Optional[_Union[Playback, _Mapping]] = ..., leave: _Optional[_Union[Leave, _Mapping]] = ..., close: _Optional[_Union[SessionClose, _Mapping]] = ..., batch: _Optional[_Union[RequestBatch, _Mapping]] = ..., stream: _Optional[_Union[StreamOpen, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., resume: _Optional[_Union[Resume, _Mapping]] = ...) -> None: ...

class ChatResponse(_message.Message):
    __slots__ = ("message_id", "device_id", "type", "timestamp", "session_id", "sequence", "ack", "credit", "audio", "stt", "tts", "llm", "alert", "mcp", "system", "image", "iot", "goodbye", "other", "error", "pong", "close", "flush", "pause", "batch", "stream", "heartbeat", "opened", "language")
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    STT_FIELD_NUMBER: _ClassVar[int]
    TTS_FIELD_NUMBER: _ClassVar[int]
    LLM_FIELD_NUMBER: _ClassVar[int]
    ALERT_FIELD_NUMBER: _ClassVar[int]
    MCP_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    IOT_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    PONG_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    FLUSH_FIELD_NUMBER: _ClassVar[int]
    PAUSE_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    message_id: str
    device_id: str
    type: ResponseType
    timestamp: int
    session_id: str
    sequence: int
    ack: int
    credit: int
    audio: Audio
    stt: Stt
    tts: Tts
    llm: Llm
    alert: Alert
    mcp: Json
    system: System
    image: Image
    iot: Json
    goodbye: Goodbye
    other: Other
    error: Error
    pong: Pong
    close: SessionClose
    flush: Flush
    pause: Pause
    batch: ResponseBatch
    stream: StreamOpen
    heartbeat: Heartbeat
    opened: Opened
    language: Language
    def __init__(self, message_id: _Optional[str] = ..., device_id: _Optional[str] = ..., type: _Optional[_Union[ResponseType, str]] = ..., timestamp: _Optional[int] = ..., session_id: _Optional[str] = ..., sequence: _Optional[int] = ..., ack: _Optional[int] = ..., credit: _Optional[int] = ..., audio: _Optional[_Union[Audio, _Mapping]] = ..., stt: _Optional[_Union[Stt, _Mapping]] = ..., tts: _Optional[_Union[Tts, _Mapping]] = ..., llm: _Optional[_Union[Llm, _Mapping]] = ..., alert: _Optional[_Union[Alert, _Mapping]] = ..., mcp: _Optional[_Union[Json, _Mapping]] = ..., system: _Optional[_Union[System, _Mapping]] = ..., image: _Optional[_Union[Image, _Mapping]] = ..., iot: _Optional[_Union[Json, _Mapping]] = ..., goodbye: _Optional[_Union[Goodbye, _Mapping]] = ..., other: _Optional[_Union[Other, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., pong: _Optional[_Union[Pong, _Mapping]] = ..., close: _Optional[_Union[SessionClose, _Mapping]] = ..., flush: _Optional[_Union[Flush, _Mapping]] = ..., pause: _Optional[_Union[Pause, _Mapping]] = ..., batch: _Optional[_Union[ResponseBatch, _Mapping]] = ..., stream: _Optional[_Union[StreamOpen, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., opened: _Optional[_Union[Opened, _Mapping]] = ..., language: _Optional[_Union[Language, _Mapping]] = ...) -> None: ...

class RequestBatch(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[ChatRequest]
    def __init__(self, items: _Optional[_Iterable[_Union[ChatRequest, _Mapping]]] = ...) -> None: ...

class ResponseBatch(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[ChatResponse]
    def __init__(self, items: _Optional[_Iterable[_Union[ChatResponse, _Mapping]]] = ...) -> None: ...

class StreamOpen(_message.Message):
    __slots__ = ("protocol_version", "features", "boot_id", "node", "credit", "draining")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    features: _containers.RepeatedScalarFieldContainer[str]
    boot_id: str
    node: str
    credit: int
    draining: bool
    def __init__(self, protocol_version: _Optional[int] = ..., features: _Optional[_Iterable[str]] = ..., boot_id: _Optional[str] = ..., node: _Optional[str] = ..., credit: _Optional[int] = ..., draining: _Optional[bool] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class Resume(_message.Message):
    __slots__ = ("incarnation",)
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    incarnation: int
    def __init__(self, incarnation: _Optional[int] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("incarnation",)
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    incarnation: int
    def __init__(self, incarnation: _Optional[int] = ...) -> None: ...

class Audio(_message.Message):
    __slots__ = ("payload", "timestamp", "turn")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    timestamp: int
    turn: int
    def __init__(self, payload: _Optional[bytes] = ..., timestamp: _Optional[int] = ..., turn: _Optional[int] = ...) -> None: ...

class AudioParams(_message.Message):
    __slots__ = ("format", "sample_rate", "channels", "frame_duration")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    FRAME_DURATION_FIELD_NUMBER: _ClassVar[int]
    format: str
    sample_rate: int
    channels: int
    frame_duration: int
    def __init__(self, format: _Optional[str] = ..., sample_rate: _Optional[int] = ..., channels: _Optional[int] = ..., frame_duration: _Optional[int] = ...) -> None: ...

class Features(_message.Message):
    __slots__ = ("mcp", "aec", "glyph_push")
    MCP_FIELD_NUMBER: _ClassVar[int]
    AEC_FIELD_NUMBER: _ClassVar[int]
    GLYPH_PUSH_FIELD_NUMBER: _ClassVar[int]
    mcp: bool
    aec: bool
    glyph_push: bool
    def __init__(self, mcp: _Optional[bool] = ..., aec: _Optional[bool] = ..., glyph_push: _Optional[bool] = ...) -> None: ...

class SessionOpen(_message.Message):
    __slots__ = ("version", "features", "transport", "audio", "downlink", "client_id", "user_id", "host", "incarnation", "restored", "guest")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    DOWNLINK_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    RESTORED_FIELD_NUMBER: _ClassVar[int]
    GUEST_FIELD_NUMBER: _ClassVar[int]
    version: int
    features: Features
    transport: str
    audio: AudioParams
    downlink: AudioParams
    client_id: str
    user_id: str
    host: str
    incarnation: int
    restored: _containers.RepeatedCompositeFieldContainer[ChatRequest]
    guest: bool
    def __init__(self, version: _Optional[int] = ..., features: _Optional[_Union[Features, _Mapping]] = ..., transport: _Optional[str] = ..., audio: _Optional[_Union[AudioParams, _Mapping]] = ..., downlink: _Optional[_Union[AudioParams, _Mapping]] = ..., client_id: _Optional[str] = ..., user_id: _Optional[str] = ..., host: _Optional[str] = ..., incarnation: _Optional[int] = ..., restored: _Optional[_Iterable[_Union[ChatRequest, _Mapping]]] = ..., guest: _Optional[bool] = ...) -> None: ...

class SessionClose(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Listen(_message.Message):
    __slots__ = ("state", "mode", "text", "turn", "packets")
    STATE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    PACKETS_FIELD_NUMBER: _ClassVar[int]
    state: str
    mode: str
    text: str
    turn: int
    packets: int
    def __init__(self, state: _Optional[str] = ..., mode: _Optional[str] = ..., text: _Optional[str] = ..., turn: _Optional[int] = ..., packets: _Optional[int] = ...) -> None: ...

class Chat(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class Abort(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Json(_message.Message):
    __slots__ = ("payload",)
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    def __init__(self, payload: _Optional[bytes] = ...) -> None: ...

class Vision(_message.Message):
    __slots__ = ("command", "payload")
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    command: str
    payload: bytes
    def __init__(self, command: _Optional[str] = ..., payload: _Optional[bytes] = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("text", "format", "data", "url")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    text: str
    format: str
    data: bytes
    url: str
    def __init__(self, text: _Optional[str] = ..., format: _Optional[str] = ..., data: _Optional[bytes] = ..., url: _Optional[str] = ...) -> None: ...

class Goodbye(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Other(_message.Message):
    __slots__ = ("type", "payload")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    type: str
    payload: bytes
    def __init__(self, type: _Optional[str] = ..., payload: _Optional[bytes] = ...) -> None: ...

class Playback(_message.Message):
    __slots__ = ("turn", "state", "played_ms")
    TURN_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PLAYED_MS_FIELD_NUMBER: _ClassVar[int]
    turn: int
    state: str
    played_ms: int
    def __init__(self, turn: _Optional[int] = ..., state: _Optional[str] = ..., played_ms: _Optional[int] = ...) -> None: ...

class Say(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class Leave(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Flush(_message.Message):
    __slots__ = ("turn",)
    TURN_FIELD_NUMBER: _ClassVar[int]
    turn: int
    def __init__(self, turn: _Optional[int] = ...) -> None: ...

class Language(_message.Message):
    __slots__ = ("language",)
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    language: str
    def __init__(self, language: _Optional[str] = ...) -> None: ...

class Pause(_message.Message):
    __slots__ = ("turn", "paused")
    TURN_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    turn: int
    paused: bool
    def __init__(self, turn: _Optional[int] = ..., paused: _Optional[bool] = ...) -> None: ...

class Stt(_message.Message):
    __slots__ = ("text", "turn")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    text: str
    turn: int
    def __init__(self, text: _Optional[str] = ..., turn: _Optional[int] = ...) -> None: ...

class Tts(_message.Message):
    __slots__ = ("state", "text", "turn", "aside")
    STATE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    ASIDE_FIELD_NUMBER: _ClassVar[int]
    state: str
    text: str
    turn: int
    aside: bool
    def __init__(self, state: _Optional[str] = ..., text: _Optional[str] = ..., turn: _Optional[int] = ..., aside: _Optional[bool] = ...) -> None: ...

class Llm(_message.Message):
    __slots__ = ("emotion", "text", "turn")
    EMOTION_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    emotion: str
    text: str
    turn: int
    def __init__(self, emotion: _Optional[str] = ..., text: _Optional[str] = ..., turn: _Optional[int] = ...) -> None: ...

class Alert(_message.Message):
    __slots__ = ("status", "message", "emotion")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    EMOTION_FIELD_NUMBER: _ClassVar[int]
    status: str
    message: str
    emotion: str
    def __init__(self, status: _Optional[str] = ..., message: _Optional[str] = ..., emotion: _Optional[str] = ...) -> None: ...

class System(_message.Message):
    __slots__ = ("command",)
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    command: str
    def __init__(self, command: _Optional[str] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Pong(_message.Message):
    __slots__ = ("timestamp",)
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    timestamp: int
    def __init__(self, timestamp: _Optional[int] = ...) -> None: ...
