"""Hypothesis strategies for every message of the protocol.

The messages survive every encoding: numbers are within the JSON and protobuf
ranges, texts have no lone surrogates. ``device_texts`` and ``server_texts`` draw
messages that JSON can express: e.g. no ``mode`` with ``listen stop``, no turn.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from xiaozhi.wire import jsontext
from xiaozhi.wire import messages as m

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
names = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12)
turns = st.integers(0, 2**64 - 1)
numbers = st.integers(0, 2**31 - 1)
times_ms = st.integers(0, 2**53 - 1)
blobs = st.binary(max_size=200)

# Numbers that a float or a 64-bit integer would not preserve.
_NUMBERS = ("0", "-0", "1.50", "1e400", "-1E-400", "123456789012345678901234567890", "0.1e+1")
_LITERALS = ("true", "false", "null", '""', '"\\u00e9\\n"', '"{[\\"]}"', '"你好"')


def _members(values: SearchStrategy[str]) -> SearchStrategy[str]:
    members = st.dictionaries(names.map(lambda name: f"x_{name}"), values, max_size=3)
    return members.map(lambda d: "{" + ",".join(f'"{k}":{v}' for k, v in d.items()) + "}")


json_values: SearchStrategy[str] = st.recursive(
    st.sampled_from(_NUMBERS + _LITERALS),
    lambda inner: st.lists(inner, max_size=3).map(lambda v: f"[{','.join(v)}]") | _members(inner),
    max_leaves=8,
)
"""JSON texts without white space."""

json_objects: SearchStrategy[bytes] = _members(json_values).map(str.encode)
"""JSON objects as bytes; keys start with ``x_`` and cannot collide with the protocol's."""

audio_params = st.builds(m.AudioParams, texts, numbers, numbers, numbers)
features = st.builds(m.Features, st.booleans(), st.booleans(), st.booleans())
hellos = st.builds(m.Hello, numbers, features, texts, audio_params)

# --- messages between the services --------------------------------------------------

_listens = st.builds(
    m.Listen,
    st.sampled_from(m.ListenState),
    st.sampled_from(m.ListenMode),
    texts,
    turns,
    st.integers(0, 2**32 - 1),
)
_images = st.builds(m.Image, texts, texts, blobs, texts)
_either: tuple[SearchStrategy[m.Mcp | m.Iot | m.Goodbye | m.Unknown], ...] = (
    st.builds(m.Mcp, json_objects),
    st.builds(m.Iot, json_objects),
    st.builds(m.Goodbye, texts),
    st.builds(m.Unknown, texts, json_objects),
)
audio_up = st.builds(m.Audio, blobs, st.integers(0, 2**32 - 1))
audio_down = st.builds(m.Audio, blobs, st.integers(0, 2**32 - 1), turns)

uplinks: SearchStrategy[m.Uplink] = st.one_of(
    _listens,
    st.builds(m.Chat, texts),
    st.builds(m.Abort, texts),
    _images,
    st.builds(m.Vision, texts, json_objects),
    st.just(m.Ping()),
    *_either,
    audio_up,
    st.builds(m.Say, texts),
    st.just(m.Leave()),
    st.builds(m.Playback, turns, st.sampled_from(m.PlaybackState), turns),
)

downlinks: SearchStrategy[m.Downlink] = st.one_of(
    st.builds(m.Stt, texts, turns),
    st.builds(m.Tts, st.sampled_from(m.TtsState), texts, turns),
    st.builds(m.Llm, texts, texts, turns),
    st.builds(m.Alert, texts, texts, texts),
    st.builds(m.System, texts),
    st.builds(m.Error, texts, texts),
    st.builds(m.Pong, times_ms),
    _images,
    *_either,
    audio_down,
    st.builds(m.Flush, turns),
    st.builds(m.Pause, turns, st.booleans()),
    st.builds(m.Language, texts),
)

devices = st.builds(m.Device, texts, texts, texts)
session_opens = st.builds(
    m.SessionOpen,
    words,
    devices,
    hellos,
    audio_params,
    words,
    st.integers(1, 2**32 - 1),
    st.lists(uplinks, max_size=3).map(tuple),
)
session_closes = st.builds(m.SessionClose, texts, texts)

# --- messages that JSON can express ---------------------------------------------------

_known = jsontext.DEVICE_TYPES | jsontext.SERVER_TYPES
_unknown = st.builds(m.Unknown, words.filter(lambda name: name not in _known), json_objects)
_pictures = _images.filter(lambda image: bool(image.data or image.url))


def _vision(command: str, payload: bytes) -> m.Vision:
    members = payload[1:-1]
    name = '"' + command + '"'
    return m.Vision(
        command, b"{" + (members + b"," if members else b"") + f'"cmd":{name}}}'.encode()
    )


_both: tuple[SearchStrategy[m.Mcp | m.Iot | m.Goodbye | m.Unknown | m.Image], ...] = (
    *_either[:3],
    _unknown,
    _pictures,
)

device_texts: SearchStrategy[m.DeviceText] = st.one_of(
    hellos,
    st.builds(m.Listen, st.just(m.ListenState.START), st.sampled_from(m.ListenMode), texts),
    st.builds(
        m.Listen,
        st.sampled_from([m.ListenState.STOP, m.ListenState.DETECT]),
        st.just(m.ListenMode.AUTO),
        texts,
    ),
    st.builds(m.Chat, words),
    st.builds(m.Abort, texts),
    st.builds(_vision, names, json_objects),
    st.just(m.Ping()),
    *_both,
)

server_texts: SearchStrategy[m.ServerText] = st.one_of(
    st.builds(m.ServerHello, texts, audio_params, texts),
    st.builds(m.Stt, texts),
    st.builds(m.Tts, st.sampled_from(m.TtsState), texts),
    st.builds(m.Llm, texts, texts),
    st.builds(m.Alert, texts, texts, texts),
    st.builds(m.System, texts),
    st.builds(m.Error, texts, texts),
    st.builds(m.Pong, times_ms),
    *_both,
)
