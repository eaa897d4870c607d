"""The context of a provider call: agent, device, user, conversation.

A session enters a :class:`CallContext` around the work that it starts. Coroutines started within
inherit it, as they do :mod:`xiaozhi.base.trace`, so adapters read it with
:func:`current_call` wherever they run and no provider's signature has to carry it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from xiaozhi.base import trace


@dataclass(frozen=True, slots=True)
class CallContext:
    """The device, person and agent of a call. An empty text means unknown.

    :ivar agent_id: id of the agent that serves the device.
    :ivar device_id: of the device, usually its MAC address.
    :ivar client_id: the UUID of the device's installation.
    :ivar user_id: the user named in the device's token.
    :ivar session_id: one connection of the device.
    :ivar conversation_id: stable for a conversation across sessions; dialogue
        platforms keep their history under it.
    :ivar language: BCP 47, of the person.
    :ivar voice: id of the voice that speaks.
    :ivar request_id: id of the device's message that started the work; the same at the
        edge, on the bridge and in log lines.
    """

    agent_id: str = ""
    device_id: str = ""
    client_id: str = ""
    user_id: str = ""
    session_id: str = ""
    conversation_id: str = ""
    language: str = ""
    voice: str = ""
    request_id: str = ""


_NOBODY = CallContext()
_call: ContextVar[CallContext] = ContextVar("call", default=_NOBODY)


def current_call() -> CallContext:
    """The context of the running call; all its fields are empty outside any session.

    ``request_id`` is that of the message being worked for, unless the context has one.
    """
    call = _call.get()
    if not call.request_id and (request := trace.current()) is not None:
        return replace(call, request_id=request.id)
    return call


@contextmanager
def calling(call: CallContext) -> Iterator[None]:
    """Set the context for the coroutines started within; they keep it afterwards."""
    token = _call.set(call)
    try:
        yield
    finally:
        _call.reset(token)
