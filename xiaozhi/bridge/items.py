"""Items: the protobuf messages on a stream, one by one or in batches. Pure.

An item to send is bytes once made, so that a batch only concatenates them. More fields can
be appended to an item (:func:`receipt`): protobuf reads concatenated messages as one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from xiaozhi._pb import ai_service_pb2 as pb
from xiaozhi.wire import convert
from xiaozhi.wire.messages import Downlink, SessionClose, Uplink

PROTOCOL_VERSION = 2
BATCH = "batch"  # the feature: "you may send me batches"

HELLO = pb.MESSAGE_TYPE_HELLO
RESUME = pb.MESSAGE_TYPE_RESUME
OPENED = pb.RESPONSE_TYPE_OPENED
DRAIN = pb.RESPONSE_TYPE_DRAIN

# The other side's reactor reads a batch in one go: 64 audio packets take 0.5 ms.
MAX_BATCH = 64

Item = Any  # as received: pb.ChatRequest going up, pb.ChatResponse coming down


M = TypeVar("M")


class ItemDirection(NamedTuple, Generic[M]):
    """The differences between requests and responses, for messages of one direction.

    :ivar make: ``(message, session_id, sequence)`` to a protobuf message.
    :ivar audio: makes the function that writes a session's packets.
    :ivar read: converts an item to a message; raises ``ProtocolError``. An edge's items are
        checked: they carry devices' input, and the edge may not be ours.
    """

    item: type[Any]
    make: Callable[[M | SessionClose, str, int], Item]
    audio: Callable[[str], convert.AudioWriter]
    read: Callable[[Item], M | SessionClose]
    batch: int
    stream_open: int
    heartbeat: int
    ack: int
    skip: int


AnyDirection = ItemDirection[Any]
"""Either direction, where its messages do not matter."""

UP: ItemDirection[Uplink] = ItemDirection(
    pb.ChatRequest,
    convert.request,
    convert.request_audio,
    convert.accept_uplink,
    pb.MESSAGE_TYPE_BATCH,
    pb.MESSAGE_TYPE_STREAM_OPEN,
    pb.MESSAGE_TYPE_HEARTBEAT,
    pb.MESSAGE_TYPE_ACK,
    pb.MESSAGE_TYPE_SKIP,
)
DOWN: ItemDirection[Downlink] = ItemDirection(
    pb.ChatResponse,
    convert.response,
    convert.response_audio,
    convert.read_response,
    pb.RESPONSE_TYPE_BATCH,
    pb.RESPONSE_TYPE_STREAM_OPEN,
    pb.RESPONSE_TYPE_HEARTBEAT,
    pb.RESPONSE_TYPE_ACK,
    pb.RESPONSE_TYPE_SKIP,
)


# --- about the stream


def stream_open(
    direction: AnyDirection, node: str, boot_id: str, credit: int, draining: bool = False
) -> bytes:
    """Make the first item of a stream: our identity and features.

    :param credit: audio packets of each session that we accept before we grant more.
    """
    item = direction.item(type=direction.stream_open)
    item.stream.protocol_version = PROTOCOL_VERSION
    item.stream.features.append(BATCH)
    item.stream.boot_id = boot_id
    item.stream.node = node
    item.stream.credit = credit
    item.stream.draining = draining
    return _bytes(item)


def heartbeat(direction: AnyDirection, number: int) -> bytes:
    """:param number: the ping's; its answer has the same."""
    item = direction.item(type=direction.heartbeat, heartbeat=pb.Heartbeat(number=number))
    return _bytes(item)


def drain() -> bytes:
    """Make the item that announces a stop: no new sessions."""
    return _bytes(pb.ChatResponse(type=DRAIN))


# --- about a session, outside its order


def acknowledgement(direction: AnyDirection, session_id: str) -> bytes:
    """Make an empty item, to be completed by a :func:`receipt`."""
    return _bytes(direction.item(type=direction.ack, session_id=session_id))


def receipt(ack: int, credit: int) -> bytes:
    """Encode acknowledgement and credit, to be appended to an item.

    :param ack: and ``credit``: 0: absent.
    """
    told = b"\x38" + convert.varint(ack) if ack else b""
    return told + b"\xd8\x01" + convert.varint(credit) if credit else told


def address(direction: AnyDirection, message_id: str, device_id: str, timestamp: int) -> bytes:
    """Encode the address of an item that travels alone, to be appended to it.

    :param timestamp: ms since the epoch.
    """
    return _bytes(direction.item(message_id=message_id, device_id=device_id, timestamp=timestamp))


def skip(direction: AnyDirection, session_id: str, sequence: int) -> bytes:
    """Make an item that skips everything up to a sequence."""
    return _bytes(direction.item(type=direction.skip, session_id=session_id, sequence=sequence))


def resume(session_id: str, device_id: str, incarnation: int) -> bytes:
    """Make the edge's item that resumes a session on this stream."""
    item = pb.ChatRequest(type=RESUME, session_id=session_id, device_id=device_id)
    item.resume.incarnation = incarnation
    return _bytes(item)


def opened(session_id: str, incarnation: int) -> bytes:
    """Make the AI service's answer to an accepted HELLO or RESUME."""
    item = pb.ChatResponse(type=OPENED, session_id=session_id)
    item.opened.incarnation = incarnation
    return _bytes(item)


def closed(session_id: str, device_id: str, code: str, message: str) -> bytes:
    """Make the AI service's item that a session is not here, with the reason."""
    item = pb.ChatResponse(type=pb.RESPONSE_TYPE_CLOSE, session_id=session_id, device_id=device_id)
    item.close.code, item.close.message = code, message
    return _bytes(item)


def _bytes(item: Any) -> bytes:
    return bytes(item.SerializeToString())


# --- batches


def batched(
    direction: AnyDirection, items: Sequence[bytes], batching: bool, max_bytes: int
) -> Iterator[tuple[bytes, int]]:
    """Encode items as messages, with the number of items in each.

    :param batching: whether the other side reads batches.
    :param max_bytes: no batch of more than one item is longer than this.
    """
    if not batching:
        for item in items:
            yield item, 1
        return
    pieces: list[bytes] = []
    size = count = 0
    for item in items:
        head = b"\x0a" + convert.varint(len(item))  # RequestBatch.items
        length = len(head) + len(item)
        if count == MAX_BATCH or (count and size + length > max_bytes):
            yield _batch(direction, pieces, size), count
            pieces, size, count = [], 0, 0
        pieces += (head, item)
        size += length
        count += 1
    if count:
        yield _batch(direction, pieces, size), count


def _batch(direction: AnyDirection, pieces: list[bytes], size: int) -> bytes:
    # Fields 3, `type`, and 30, `batch`.
    head = b"\x18%b\xf2\x01%b" % (convert.varint(direction.batch), convert.varint(size))
    return head + b"".join(pieces)


def unbatched(direction: AnyDirection, item: Item) -> Sequence[Item]:
    """Return the items of a received message."""
    if item.type == direction.batch:
        return item.batch.items  # type: ignore[no-any-return]
    return (item,)
