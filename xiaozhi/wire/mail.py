"""Mail for a device from outside a conversation: a message, or a text to speak."""

from __future__ import annotations

import json
from dataclasses import dataclass

import msgspec
from msgspec import Raw

from xiaozhi.base.errors import ProtocolError
from xiaozhi.wire import messages as m
from xiaozhi.wire.jsontext import MAX_DEPTH, deeper_than, parse_server

# These control a device's connection and playback, so only the edge may send them: a second hello
# breaks the next connection (§2.2), a tts outside a turn makes the device hang (§4.5).
_OURS = (m.ServerHello, m.Tts)
_OUR_NAMES = ("hello", "tts")
_NOT_DELIVERABLE = "only the edge may send hello and tts"


@dataclass(frozen=True, slots=True)
class Mail:
    """A message or a text; the other one is empty.

    :ivar message: a JSON object for the device.
    :ivar say: a text to speak to the person.
    """

    message: str = ""
    say: str = ""

    def __repr__(self) -> str:
        return f"<Mail, {'words' if self.say else 'a message'}>"


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    message: Raw = Raw(b"null")
    say: str | None = None
    ttl: float | None = None


_read_body = msgspec.json.Decoder(_Body).decode


def read_mail(body: bytes) -> tuple[Mail, float | None]:
    """Read ``{"message": {…}}`` or ``{"say": "…"}``, each with an optional ``ttl``.

    :return: the mail, and the ttl in seconds if there is one.
    :raises ProtocolError: ``bad_json``, ``too_deep``, ``bad_field``, or ``not_deliverable``: a
        message that only the edge may send.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise ProtocolError("bad_json", "the body is not UTF-8") from None
    if deeper_than(text, MAX_DEPTH):
        raise ProtocolError("too_deep", f"JSON is nested deeper than {MAX_DEPTH}")
    try:
        read = _read_body(text)
    except msgspec.ValidationError as error:
        raise ProtocolError("bad_field", f"the body: {error}") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ProtocolError("bad_json", f"the body is not JSON: {error}") from None
    if read.ttl is not None and read.ttl < 0:
        raise ProtocolError("bad_field", "ttl must be 0 or more seconds")
    message = bytes(read.message)
    if (message == b"null") == (read.say is None):
        raise ProtocolError("bad_field", "the body must have either message or say")
    if read.say is not None:
        if not read.say.strip():
            raise ProtocolError("bad_field", "say is empty")
        return Mail(say=read.say), read.ttl
    return _message(message), read.ttl


def _message(raw: bytes) -> Mail:
    if not raw.lstrip().startswith(b"{"):
        raise ProtocolError("bad_field", "message is not an object")
    try:
        # Deeper levels were parsed only superficially.
        msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ProtocolError("bad_json", f"message is not JSON: {error}") from None
    _check_type(raw)
    mail = Mail(message=raw.decode())
    if isinstance(meant(mail), _OURS):
        raise ProtocolError("not_deliverable", _NOT_DELIVERABLE)
    return mail


def _check_type(raw: bytes) -> None:
    """Refuse a message whose type a device could read differently from us.

    Firmware takes the first member whose name is ``type`` in any case, up to a NUL; other clients
    take the last one with exactly that name.
    """
    # Keep numbers as text: some are too long for Python to convert.
    members: list[tuple[str, object]] = json.loads(
        raw, object_pairs_hook=list, parse_int=str, parse_float=str
    )
    types = [(key, value) for key, value in members if key.split("\0")[0].lower() == "type"]
    if len(types) > 1 or any(key != "type" for key, _ in types):
        raise ProtocolError("bad_field", "message has more than one type, or another spelling")
    for _, value in types:
        if isinstance(value, str) and value.split("\0")[0].strip().lower() in _OUR_NAMES:
            raise ProtocolError("not_deliverable", _NOT_DELIVERABLE)


def meant(mail: Mail) -> m.Say | m.ServerText | str:
    """Convert a mail to the edge's messages.

    :return: a text for the AI service to speak; a message of a known type, to be rendered in the
        device's dialect; or the text of any other message, to be sent unchanged.
    :raises ProtocolError: a known type with an invalid field.
    """
    if mail.say:
        return m.Say(mail.say)
    try:
        message, _ = parse_server(mail.message)
    except ProtocolError as error:
        if error.code != "bad_type":
            raise
        return mail.message
    return mail.message if isinstance(message, m.Unknown) else message
