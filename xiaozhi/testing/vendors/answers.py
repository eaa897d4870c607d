"""Chat answers as vendors send them, with the expected result of each.

``xiaozhi/test/providers/test_vendor_answers.py`` plays the tables on virtual time, and
``tests/test_vendor_answers.py`` over real sockets.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from xiaozhi.testing.vendors.octets import (
    CHUNKS_END,
    DONE,
    choice,
    chunk,
    event,
    head,
    pieces,
    stream,
    until_close,
    whole,
)
from xiaozhi.testing.vendors.vendor import HANG_UP, RESET, Step

Call = tuple[str, str]


@dataclass(frozen=True)
class Row:
    """One answer.

    :ivar text: everything that may be spoken.
    :ivar calls: names and arguments of the called tools.
    :ivar error: code of the error that ends it; empty: none.
    :ivar within: seconds of virtual time after which it must be over.
    """

    name: str
    steps: list[Any]
    text: str = ""
    calls: tuple[Call, ...] = ()
    error: str = ""
    within: float = 0.5

    @property
    def seconds(self) -> float:
        """Return how long the vendor takes."""
        return sum(step for step in self.steps if isinstance(step, int | float))


def say(text: Any, finish: Any = None, **more: Any) -> bytes:
    """Make an event with a piece of text."""
    return event(choice({"content": text}, finish, **more))


def end(finish: Any = "stop", **more: Any) -> bytes:
    """Make an event without text that ends an answer."""
    return event(choice({}, finish, **more))


def call(name: str, arguments: Any, index: Any = 0, finish: Any = None, **more: Any) -> bytes:
    """Make an event with a piece of a tool call; None omits a member."""
    function = {"name": name, "arguments": arguments}
    function = {key: value for key, value in function.items() if value is not None}
    told = {"index": index, "type": "function", "function": function, **more}
    told = {key: value for key, value in told.items() if value is not None}
    return event(choice({"tool_calls": [told]}, finish))


def message(content: Any, finish: Any = "stop", **more: Any) -> dict[str, Any]:
    """Make a whole answer as JSON."""
    told = {"role": "assistant", "content": content, **more}
    return {
        "id": "1",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": told, "finish_reason": finish}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }


ROLE = event(choice({"role": "assistant", "content": ""}))
USAGE = event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}})
HELLO = [say("Good "), say("morning.")]
TEXT = "Good morning."
SET = ("set_volume", '{"volume":30}')
REPEAT = message(TEXT)
BODY = b"".join([ROLE, *HELLO, end(), DONE])
SLOW = 1.5


def plain(*events: bytes, **headers: Any) -> list[Step]:
    """Make a chunked event stream that ends as specified."""
    return [*stream(*events, **headers)]


# The end of an answer.
ENDS = [
    Row("by the book", plain(ROLE, *HELLO, end(), USAGE, DONE), TEXT),
    Row("no [DONE]", plain(*HELLO, end()), TEXT),
    Row("no finish_reason", plain(*HELLO, DONE), TEXT),
    Row("neither, a clean end", plain(*HELLO), TEXT),
    Row("neither, until close", [until_close(b"".join(HELLO), "text/event-stream"), HANG_UP], TEXT),
    Row("neither, with a length", [*whole(b"".join(HELLO), "text/event-stream")], TEXT),
    Row("no blank line at the end", plain(*HELLO, end().rstrip()), TEXT),
    Row("[DONE] and no hang-up", stream(*HELLO, end(), DONE)[:-1], TEXT),
    Row("a finish and no hang-up", stream(*HELLO, end())[:-1], TEXT),
    Row("a finish with the last words", plain(say("Good "), say("morning.", "stop")), TEXT),
    Row("a cut after the finish", [*stream(*HELLO, end())[:-1], RESET], TEXT),
    Row("a cut after [DONE]", [*stream(*HELLO, DONE)[:-1], RESET], TEXT),
    Row("junk after [DONE]", plain(*HELLO, DONE, b"data: {oops\n\n"), TEXT),
    *(
        Row(f"finish_reason {finish!r} on every chunk", plain(*events, DONE), TEXT)
        for finish in ("stop", "null", "", "None", "length", "tool_calls", False)
        for events in [[say("Good ", finish), say("morning", finish), say(".", finish)]]
    ),
    Row(
        "stop on every chunk, slowly",
        plain(say("", "stop"), say("Good ", "stop"), say("morn", "stop"),
              say("ing.", "stop"), pause=SLOW),
        TEXT, within=8,
    ),
    Row(
        "stop on every chunk, no other end",
        [*stream(say("Good ", "stop"), say("morn", "stop"), say("ing.", "stop"), pause=SLOW)[:-1]],
        TEXT, within=10,
    ),
    Row("stop on all but the first, slowly",
        plain(say("Good "), say("morn", "stop"), say("ing.", "stop"), DONE, pause=SLOW), TEXT,
        within=7),
    Row("stop with the last words, no hang-up", stream(say("Good "), say("morning.", "stop"))[:-1],
        TEXT, within=4),
    Row("stop on the role chunk", plain(end("stop"), *HELLO, pause=SLOW), TEXT, within=6),
    Row("stop in the only chunk", plain(say(TEXT, "stop")), TEXT),
    Row("stop in the only chunk, no hang-up", stream(say(TEXT, "stop"))[:-1], TEXT, within=4),
    Row("more after the end", plain(say("Good "), end(), say("morning."), end(), DONE), TEXT),
    Row("null on every chunk, slowly", plain(*[say(p, "null") for p in ("Good ", "morning.")],
        end("stop"), pause=SLOW), TEXT, within=6),
    Row("the whole text in message", plain(*HELLO, end(message={"content": TEXT}), DONE), TEXT),
    Row("the whole text in a last message alone", plain(*HELLO, event(REPEAT)), TEXT),
    Row("with delta null", plain(*HELLO, event(choice(None) | REPEAT)), TEXT),
    Row("a message that grows", plain(*[event(message(TEXT[:n], None)) for n in (4, 9, 13)],
        end(message={"content": TEXT})), TEXT),
    Row("the whole text in a last delta", plain(*HELLO, say(TEXT, "stop"), DONE), TEXT),
    Row("a message with more", plain(say("Good "), end(message={"content": TEXT})), TEXT),
    Row("a message with blanks at its ends", plain(*HELLO, event(message(f"\n{TEXT} "))), TEXT),
    Row("a message and nothing else", plain(event(REPEAT), DONE), TEXT),
    Row("thoughts, and a message without", plain(say("<think>hm</think>"), event(REPEAT)), TEXT),
    Row("thoughts and words, and a message without",
        plain(say("<think>hm</think>"), *HELLO, event(REPEAT)), TEXT),
    Row("calls again in message", plain(call(*SET, id="a"), end("tool_calls", message={
        "tool_calls": [{"id": "a", "function": dict(zip(("name", "arguments"), SET, strict=True))}]
    })), calls=(SET,)),
    Row("a call and nothing else", plain(call(*SET)), calls=(SET,)),
    Row("calls with a finish each", plain(call("get_time", "{}", id="a", finish="tool_calls"),
        call(*SET, index=1, id="b", finish="tool_calls"), DONE), calls=(("get_time", "{}"), SET)),
    Row("a finish on each piece of a call", plain(
        call("set_volume", '{"vol', id="a", finish="tool_calls"),
        call("", 'ume":30}', finish="tool_calls"), DONE), calls=(SET,)),
    Row("text and then a call", plain(*HELLO, call(*SET), end("tool_calls")), TEXT, (SET,)),
    Row("nothing said, by the book", plain(ROLE, end(), DONE)),
]  # fmt: skip

_MANY = "".join(f'{{"a":{n}}}' for n in range(1000))

# Real errors.
CUTS = [
    Row("cut within the text", [*stream(*HELLO)[:-1], RESET], TEXT, error="connection_lost"),
    Row("hung up within a chunked body", [*stream(*HELLO)[:-1], HANG_UP], TEXT,
        error="connection_lost"),
    Row("cut, with stop on every chunk", [*stream(say("Good ", "stop"),
        say("morning.", "stop"))[:-1], RESET], TEXT, error="connection_lost"),
    Row("half an event, with stop on every chunk", plain(say("Good ", "stop"),
        say("morning.", "stop"), say("More.", "stop")[:30]), TEXT, error="connection_lost"),
    Row("cut before anything", [stream()[0], RESET], error="connection_lost"),
    Row("the end within an event", plain(*HELLO, say("More.")[:30]), TEXT,
        error="connection_lost"),
    Row("the end within a call", plain(call("set_volume", '{"vol')), error="connection_lost"),
    Row("the end within JSON", whole(json.dumps(REPEAT).encode()[:50]), error="connection_lost"),
    Row("shorter than its length", [
        head(headers={"Content-Length": "9999"}), b"".join(HELLO), HANG_UP,
    ], TEXT, error="connection_lost"),
    Row("nothing", plain(), error="bad_answer"),
    Row("nothing but keep-alives", plain(b": ping\n\n", b": ping\n\n"), error="bad_answer"),
    Row("a page", whole(b"<html><title>Gateway error</title></html>", "text/html"),
        error="bad_answer"),
    Row("a page after a BOM", whole(b"\xef\xbb\xbf \n<!DOCTYPE html><p>no", None),
        error="bad_answer"),
    Row("a text", whole(b"upstream connect error", "text/plain"), error="bad_answer"),
    Row("not JSON", plain(*HELLO, b"data: {oops\n\n"), TEXT, error="bad_answer"),
    Row("finish_reason error", plain(*HELLO, end("error")), TEXT, error="vendor_error"),
    Row("no resources", plain(end("insufficient_system_resource")), error="vendor_error"),
    Row("filtered", plain(end("content_filter"), DONE), error="refused"),
    Row("filtered, as GLM says", plain(end("sensitive"), DONE), error="refused"),
    Row("deep JSON in an event", plain(b"data: " + b'{"a":' * 50_000 + b"\n\n"),
        error="bad_answer"),
    Row("deep JSON", whole(b"[" * 100_000), error="bad_answer"),
    *(
        Row(f"an error nested {depth} deep", whole(
            b'{"message":' * depth + b'"x"' + b"}" * depth), error=code)
        for depth, code in ((2, "vendor_error"), (300, "bad_answer"), (900, "bad_answer"))
    ),
    *(
        Row(f"arguments nested {depth} deep", plain(event(choice({"tool_calls": [
            {"function": {"name": "f", "arguments": json.loads("[" * depth + "]" * depth)}}]}))),
            calls=(("f", "[" * depth + "]" * depth),))
        for depth in (2, 300)
    ),
    Row("calls without end", plain(*(call("f", "{}", index=n) for n in range(1000))),
        error="bad_answer"),
    Row("objects without end", plain(call("f", _MANY), end()), calls=(("f", _MANY),)),
    Row("words without end", whole({"error": "key " + " " * 500_000 + "model <script" * 9999}),
        error="vendor_error"),
    Row("a page without end", whole(b"<script" * 100_000), error="bad_answer"),
    Row("deep content", plain(say([[[["x"]]]]), end())),
    Row("deep arguments", plain(call("f", '{"a":' * 20_000 + "1" + "}" * 20_000), end()),
        calls=(("f", '{"a":' * 20_000 + "1" + "}" * 20_000),)),
    Row("an error of great depth", whole(b'{"error":' * 20_000 + b"1" + b"}" * 20_000,
        status=400), error="bad_request"),
]  # fmt: skip


def _lines(end_of_line: bytes) -> bytes:
    return BODY.replace(b"\n", end_of_line)


_JSON = json.dumps(REPEAT, ensure_ascii=False).encode()
_TYPES = ("text/event-stream", "application/json", "text/plain", "application/octet-stream", None)
_CHINESE = b"".join([say("早上好，"), say("世界🌍。"), end(), DONE])

# Media types and segmentation of an answer.
BODIES = [
    *(Row(f"events called {kind}", plain(BODY, media_type=kind), TEXT) for kind in _TYPES),
    *(Row(f"JSON called {kind}", whole(_JSON, kind), TEXT) for kind in _TYPES),
    *(
        Row(f"JSON called {kind}, in bytes", plain(*pieces(_JSON, 1), media_type=kind), TEXT)
        for kind in _TYPES
    ),
    Row("JSON over several lines", whole(json.dumps(REPEAT, indent=2).encode(), None), TEXT),
    Row("JSON with a BOM", whole(b"\xef\xbb\xbf" + _JSON, "text/plain"), TEXT),
    Row("JSON after blank lines", whole(b"\r\n \n" + _JSON + b"\n", "text/plain"), TEXT),
    Row("JSON until close", [until_close(_JSON), HANG_UP], TEXT),
    Row("JSON line by line", plain(*(json.dumps(choice({"content": p})).encode() + b"\n"
        for p in ("Good ", "morning."))), TEXT),
    Row("JSON with a call", whole(message(None, "tool_calls", tool_calls=[
        {"id": "a", "function": {"name": "set_volume", "arguments": {"volume": 30}}}])),
        calls=(("set_volume", '{"volume": 30}'),)),
    *(
        Row(f"lines end with {eol!r}, {size} bytes at once",
            plain(*pieces(_lines(eol), size)), TEXT)
        for eol in (b"\n", b"\r\n", b"\r")
        for size in (1, 7, 4096)
    ),
    Row("a BOM", plain(b"\xef\xbb\xbf" + BODY), TEXT),
    Row("a BOM, every byte alone", plain(*pieces(b"\xef\xbb\xbf" + BODY, 1)), TEXT),
    Row("data: without a space", plain(BODY.replace(b"data: ", b"data:")), TEXT),
    Row("data: with two spaces", plain(BODY.replace(b"data: ", b"data:  ")), TEXT),
    Row("comments and other fields", plain(
        b": hi\n\nretry: 1\nid: 1\nevent: x\n", say(TEXT), b":\n\n", end()), TEXT),
    Row("comments slowly", plain(*[b": keep-alive\n\n"] * 3, say(TEXT), end(), pause=SLOW),
        TEXT, within=9),
    Row("no blank lines", plain(BODY.replace(b"\n\n", b"\n")), TEXT),
    Row("an event over several lines", plain(
        b'data: {"choices": [{"delta":\ndata: {"content": "Good morning."}}]}\n\n', end()), TEXT),
    Row("[DONE] as a string", plain(*HELLO, b'data: "[DONE]"\n\n'), TEXT),
    *(
        Row(f"UTF-8 in pieces of {size}", plain(*pieces(_CHINESE, size)), "早上好，世界🌍。")
        for size in (1, 2, 3, 5)
    ),
    Row("events in two chunked encodings' borders", [
        head(headers={"Transfer-Encoding": "chunked"}),
        *pieces(b"".join(map(chunk, pieces(_CHINESE, 5))) + CHUNKS_END, 3)], "早上好，世界🌍。"),
]  # fmt: skip

_PARTS = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
    {"type": "reasoning", "text": "hm"},
    {"type": "text", "text": "Good "},
    {"type": "text", "text": {"value": "morning."}},
    {"type": "image_url", "image_url": {"url": "x"}},
]

_NO_ERROR: list[Any] = [None, "", {}, False, []]

# Forms of chunks.
CHUNKS = [
    Row("usage alone", plain(USAGE, *HELLO, USAGE, end(), USAGE, DONE), TEXT),
    Row("choices null", plain(event({"choices": None}), *HELLO, event({"choices": None,
        "usage": None}), DONE), TEXT),
    Row("choices empty, or no choices", plain(event({"choices": []}), event({"type": "ping"}),
        event({"id": "x", "object": "y"}), *HELLO, DONE), TEXT),
    Row("things that are no objects", plain(b"data: 1\n\n", b"data: null\n\n", b"data: []\n\n",
        event({"choices": [None]}), event({"choices": {"0": 1}}), *HELLO, DONE), TEXT),
    Row("delta null", plain(event({"choices": [{"delta": None}]}), *HELLO, DONE), TEXT),
    Row("content null", plain(event(choice({"role": "assistant", "content": None})), *HELLO,
        event(choice({"content": None}, "stop"))), TEXT),
    Row("content absent", plain(event(choice({"role": "assistant"})), *HELLO, end()), TEXT),
    Row("content as parts", plain(say(_PARTS), end()), TEXT),
    Row("content as texts", plain(say(["Good ", "morning."]), end()), TEXT),
    Row("content as one part", plain(say(_PARTS[2]), say("morning."), end()), TEXT),
    Row("content of no kind", plain(say(7), *HELLO, say(True), end()), TEXT),
    Row("message with parts", whole(message(_PARTS)), TEXT),
    Row("delta as text", plain(event({"choices": [{"delta": "Good "}]}), HELLO[1], DONE), TEXT),
    Row("text without chat", plain(event({"choices": [{"text": TEXT}]}), DONE), TEXT),
    Row("refusal", plain(event(choice({"content": None, "refusal": TEXT})), end()), TEXT),
    *(
        Row(f"{field}", plain(event(choice({field: "hm", "content": None})),
            event(choice({field: "hm"})), *HELLO, end()), TEXT)
        for field in ("reasoning_content", "reasoning", "thinking", "thought", "reasoning_details")
    ),
    Row("function_call", plain(
        event(choice({"function_call": {"name": "set_volume", "arguments": ""}})),
        event(choice({"function_call": {"arguments": '{"volume":'}})),
        event(choice({"function_call": {"arguments": "30}"}})),
        end("function_call")), calls=(SET,)),
    Row("tool_calls of no kind", plain(event(choice({"tool_calls": "x"})),
        event(choice({"tool_calls": [None, 1]})), *HELLO, end()), TEXT),
    Row("success beside the choices", plain(*(event({"code": 0, "message": "Success", "sid": "x",
        "base_resp": {"status_code": 0, "status_msg": ""}, "error": None,
        **choice({"content": p})}) for p in ("Good ", "morning.")), DONE), TEXT),
    Row("a code of its own beside the choices", plain(*(event({"code": 7, "message": "note",
        **choice({"content": p})}) for p in ("Good ", "morning.")), DONE), TEXT),
    Row("success without choices", plain(event({"code": 0, "message": "Success"}), *HELLO,
        event({"choices": [], "base_resp": {"status_code": 0, "status_msg": "success"}}),
        event({"code": "200", "msg": "ok", "data": None}), DONE), TEXT),
    Row("no error", plain(*[event({"error": e}) for e in _NO_ERROR], *HELLO,
        event({"error": {"code": 0, "message": ""}}), DONE), TEXT),
]  # fmt: skip

# Forms of tool calls.
_BRACES = '{"a":{"b":"}{"}}'
CALLS = [
    Row("glued at one index", plain(call("set_volume", '{"volume":30}{"volume":40}'), end()),
        calls=(SET, ("set_volume", '{"volume":40}'))),
    Row("glued from pieces", plain(call("set_volume", '{"volume"'), call("", ':30}{"vol'),
        call("", 'ume":40}'), end()), calls=(SET, ("set_volume", '{"volume":40}'))),
    Row("an empty object first", plain(call("set_volume", "{}"), call("", '{"volume":30}'), end()),
        calls=(SET,)),
    Row("the arguments twice", plain(call("set_volume", '{"volume":30}', id="a"),
        call("set_volume", '{"volume":30}', id="a"), end()), calls=(SET,)),
    Row("braces in a string", plain(call("f", _BRACES * 2), end()), calls=(("f", _BRACES),)),
    Row("parallel at one index, by id", plain(call(*SET, id="a"), call("get_time", "{}", id="b"),
        end()), calls=(SET, ("get_time", "{}"))),
    Row("parallel at one index, by name", plain(call(*SET), call("get_time", "{}"), end()),
        calls=(SET, ("get_time", "{}"))),
    Row("parallel at one index, by known names", plain(call("get_time", ""),
        call("set_volume", ""), call("", '{"volume":30}'), end()),
        calls=(("get_time", "{}"), SET)),
    Row("no index", plain(call(*SET, index=None), call("get_time", "{}", index=None), end()),
        calls=(SET, ("get_time", "{}"))),
    Row("the name again with each piece", plain(call("set_volume", '{"vol', id="a"),
        call("set_volume", 'ume":30}', id="a"), end()), calls=(SET,)),
    Row("arguments as an object", plain(call("set_volume", {"volume": 30}), end()),
        calls=(("set_volume", '{"volume": 30}'),)),
    Row("arguments null", plain(event(choice({"tool_calls": [{"index": 0, "function": {
        "name": "get_time", "arguments": None}}]})), end()), calls=(("get_time", "{}"),)),
    Row("index as text", plain(call(*SET, index="0"), call("get_time", "{}", index="1"), end()),
        calls=(SET, ("get_time", "{}"))),
]  # fmt: skip
