"""Items: the protobuf messages on a stream, one by one or in batches. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from xiaozhi._pb import ai_service_pb2 as pb
from xiaozhi.wire import convert

PROTOCOL_VERSION = 2
BATCH = "batch"  # the feature: "you may send me batches"

HELLO = pb.MESSAGE_TYPE_HELLO
RESUME = pb.MESSAGE_TYPE_RESUME
OPENED = pb.RESPONSE_TYPE_OPENED
DRAIN = pb.RESPONSE_TYPE_DRAIN

# One batch is read in one go on the other side's reactor: 256 audio packets
# take it about a millisecond.
MAX_BATCH = 256

Item = Any  # pb.ChatRequest going up, pb.ChatResponse coming down


class Direction(NamedTuple):
    """Everything that differs between requests and responses.

    :ivar make: ``(message, session_id, sequence)`` to an item.
    :ivar read: an item to a message; raises ``ProtocolError``.
    """

    item: type[Any]
    make: Callable[[Any, str, int], Item]
    read: Callable[[Item], Any]
    batch: int
    stream_open: int
    heartbeat: int
    ack: int
    skip: int


UP = Direction(
    pb.ChatRequest,
    convert.request,
    convert.read_request,
    pb.MESSAGE_TYPE_BATCH,
    pb.MESSAGE_TYPE_STREAM_OPEN,
    pb.MESSAGE_TYPE_HEARTBEAT,
    pb.MESSAGE_TYPE_ACK,
    pb.MESSAGE_TYPE_SKIP,
)
DOWN = Direction(
    pb.ChatResponse,
    convert.response,
    convert.read_response,
    pb.RESPONSE_TYPE_BATCH,
    pb.RESPONSE_TYPE_STREAM_OPEN,
    pb.RESPONSE_TYPE_HEARTBEAT,
    pb.RESPONSE_TYPE_ACK,
    pb.RESPONSE_TYPE_SKIP,
)


# --- about the stream


def stream_open(
    direction: Direction, node: str, boot_id: str, credit: int, draining: bool = False
) -> Item:
    """The first item each way: who we are and what we understand.

    :param credit: audio packets of each session we take before we grant more.
    """
    item = direction.item(type=direction.stream_open)
    item.stream.protocol_version = PROTOCOL_VERSION
    item.stream.features.append(BATCH)
    item.stream.boot_id = boot_id
    item.stream.node = node
    item.stream.credit = credit
    item.stream.draining = draining
    return item


def heartbeat(direction: Direction, number: int) -> Item:
    """:param number: the ping's; its answer has the same."""
    return direction.item(type=direction.heartbeat, heartbeat=pb.Heartbeat(number=number))


def drain() -> Item:
    """The AI process takes no new sessions and stops soon."""
    return pb.ChatResponse(type=DRAIN)


# --- about a session, outside its order


def acknowledgement(direction: Direction, session_id: str) -> Item:
    """To be filled with ``ack`` and ``credit``."""
    return direction.item(type=direction.ack, session_id=session_id)


def skip(direction: Direction, session_id: str, sequence: int) -> Item:
    """Nothing up to this sequence comes any more."""
    return direction.item(type=direction.skip, session_id=session_id, sequence=sequence)


def resume(session_id: str, device_id: str, incarnation: int) -> Item:
    """From the edge: go on with a session on this stream."""
    return pb.ChatRequest(
        type=RESUME,
        session_id=session_id,
        device_id=device_id,
        resume=pb.Resume(incarnation=incarnation),
    )


def opened(session_id: str, incarnation: int) -> Item:
    """From the AI service: a HELLO or RESUME was taken."""
    return pb.ChatResponse(
        type=OPENED, session_id=session_id, opened=pb.Opened(incarnation=incarnation)
    )


def unknown_session(session_id: str, device_id: str) -> Item:
    """From the AI service: there is no such session (any more)."""
    return _close(session_id, device_id, "unknown_session", "There is no such session.")


def moving(session_id: str, device_id: str) -> Item:
    """From the AI service: open it elsewhere."""
    return _close(session_id, device_id, "moving", "The AI service is stopping.")


def _close(session_id: str, device_id: str, code: str, message: str) -> Item:
    close = pb.SessionClose(code=code, message=message)
    return pb.ChatResponse(
        type=pb.RESPONSE_TYPE_CLOSE, session_id=session_id, device_id=device_id, close=close
    )


# --- batches


def batched(
    direction: Direction, items: Sequence[Item], batching: bool, max_bytes: int
) -> Iterator[Item]:
    """What to write for these items.

    :param batching: whether the other side takes batches.
    :param max_bytes: no batch of more than one item is longer than this.
    """
    if not batching:
        yield from items
        return
    for start in range(0, len(items), MAX_BATCH):
        yield from _batches(direction, items[start : start + MAX_BATCH], max_bytes)


def _batches(direction: Direction, items: Sequence[Item], max_bytes: int) -> Iterator[Item]:
    batch = direction.item(type=direction.batch)
    batch.batch.items.extend(items)
    if len(items) == 1 or batch.ByteSize() <= max_bytes:
        yield batch
        return
    half = len(items) // 2
    yield from _batches(direction, items[:half], max_bytes)
    yield from _batches(direction, items[half:], max_bytes)


def unbatched(direction: Direction, item: Item) -> Sequence[Item]:
    """The items of a message as it was read."""
    if item.type == direction.batch:
        return item.batch.items  # type: ignore[no-any-return]
    return (item,)
