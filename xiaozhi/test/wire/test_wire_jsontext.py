"""JSON in both dialects: :mod:`xiaozhi.wire.jsontext`."""

from __future__ import annotations

import json
import typing
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.errors import ProtocolError
from xiaozhi.testing import wire
from xiaozhi.wire import jsontext
from xiaozhi.wire import messages as m
from xiaozhi.wire.jsontext import JsonDialect, parse_device, parse_server, render

dialects = st.sampled_from(JsonDialect)
# Ends of messages and pieces of JSON in any order: nearer to JSON than random text.
_PIECES = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    '"',
    "null",
    "true",
    "1",
    "-1",
    "1e999",
    "1.5",
    '"type"',
    '"data"',
    '"hello"',
    '"mcp"',
    '"payload"',
    '"image"',
    '"listen"',
    '"state"',
    '"start"',
    '"session_id"',
    '"features"',
    "\\u0000",
    "\\ud800",
    "\\",
]
_KEYS = [
    "state",
    "mode",
    "text",
    "reason",
    "version",
    "features",
    "audio_params",
    "transport",
    "payload",
    "cmd",
    "image_data",
    "url",
    "format",
    "timestamp",
    "emotion",
    "status",
    "message",
    "command",
    "code",
]
fragments = st.lists(st.sampled_from(_PIECES), max_size=25).map("".join)


class RoundTripTests(SynchronousTestCase):
    @settings(max_examples=150)
    @given(wire.device_texts, dialects, wire.names)
    def test_from_device(self, message: m.DeviceText, dialect: JsonDialect, session: str) -> None:
        text = render(message, dialect, session, 1640995200000)
        self.assertEqual(parse_device(text), (message, dialect))
        whole = json.loads(text)
        self.assertIn("type", whole)
        place = whole if dialect is JsonDialect.FLAT else whole["data"]
        self.assertEqual(place["session_id"], session)

    @settings(max_examples=150)
    @given(wire.server_texts, dialects, wire.names)
    def test_from_server(self, message: m.ServerText, dialect: JsonDialect, session: str) -> None:
        text = render(message, dialect, session, 1640995200000)
        self.assertEqual(parse_server(text), (message, dialect))

    @given(wire.server_texts, dialects)
    def test_nothing_null_and_no_turn(self, message: m.ServerText, dialect: JsonDialect) -> None:
        if isinstance(message, m.Mcp | m.Iot | m.Unknown):
            return  # theirs, passed on as it is
        whole: dict[str, Any] = json.loads(render(message, dialect, "s", 5))
        members = whole if dialect is JsonDialect.FLAT else whole["data"]
        self.assertNotIn(None, members.values())
        self.assertNotIn("turn", members)
        self.assertEqual(whole.get("timestamp"), 5 if "data" in whole else members.get("timestamp"))

    def test_every_message_can_be_written(self) -> None:
        for kind in (*typing.get_args(m.DeviceText), *typing.get_args(m.ServerText)):
            self.assertIn(kind, jsontext._WRITE)

    def test_no_session_id(self) -> None:
        self.assertEqual(render(m.Ping(), JsonDialect.FLAT, "", 0), '{"type":"ping"}')

    def test_the_type_is_ours(self) -> None:
        message = m.Unknown("a", b'{"type":"hello","x":1}')
        self.assertEqual(parse_device(render(message, JsonDialect.FLAT, "s", 0))[0].type, "a")  # type: ignore[union-attr]


class PayloadTests(SynchronousTestCase):
    """Forwarded payloads are not changed."""

    @given(wire.json_values, dialects)
    def test_mcp_bytes(self, value: str, dialect: JsonDialect) -> None:
        payload = f'{{ "jsonrpc" : "2.0",\n"id":1.50, "params":{value} }}'
        text = f'{{"type":"mcp","session_id":"","payload":{payload}}}'
        if dialect is JsonDialect.ENVELOPED:
            text = f'{{"type":"mcp","data":{{"payload":{payload}}},"timestamp":1}}'
        self.assertEqual(parse_device(text), (m.Mcp(payload.encode()), dialect))
        self.assertIn(payload, render(m.Mcp(payload.encode()), dialect, "s", 0))

    def test_mcp_without_payload_member(self) -> None:
        text = '{"type":"mcp","jsonrpc":"2.0","id":1.50,"session_id":"x"}'
        self.assertEqual(parse_device(text)[0], m.Mcp(b'{"jsonrpc":"2.0","id":1.50}'))

    def test_mcp_payload_must_be_an_object(self) -> None:
        for payload in ("null", '"{}"', "[]", "1"):
            self.assert_bad_field(f'{{"type":"mcp","payload":{payload}}}', "mcp.payload")
        self.assert_bad_field('{"type":"mcp"}', "mcp.payload")

    @given(wire.json_objects, wire.words)
    def test_unknown_types_are_kept_whole(self, payload: bytes, kind: str) -> None:
        kind = f"x-{kind}"
        members = payload[1:-1].decode()
        text = f'{{"type":{json.dumps(kind)}{"," if members else ""}{members}}}'
        self.assertEqual(parse_device(text)[0], m.Unknown(kind, payload))
        self.assertEqual(parse_server(text)[0], m.Unknown(kind, payload))

    def assert_bad_field(self, text: str, name: str) -> None:
        with self.assertRaises(ProtocolError) as raised:
            parse_device(text)
        self.assertEqual(raised.exception.code, "bad_field")
        self.assertIn(f"{name} ", raised.exception.message)


class ToleranceTests(SynchronousTestCase):
    """Only the type is demanded of a device."""

    def assert_parsed(self, text: str, message: m.DeviceText) -> None:
        self.assertEqual(parse_device(text)[0], message)

    def test_everything_may_be_missing(self) -> None:
        self.assert_parsed('{"type":"hello"}', m.Hello(version=0))
        self.assert_parsed('{"type":"abort"}', m.Abort())
        self.assert_parsed('{"type":"goodbye"}', m.Goodbye())
        self.assert_parsed('{"type":"listen","state":"start"}', m.Listen(m.ListenState.START))

    def test_null_is_absent(self) -> None:
        self.assert_parsed(
            '{"type":"hello","version":null,"features":{"mcp":null},"transport":null,'
            '"audio_params":{"sample_rate":null},"session_id":null}',
            m.Hello(version=0),
        )
        self.assert_parsed('{"type":"hello","features":null,"audio_params":null}', m.Hello(0))
        self.assert_parsed(
            '{"type":"listen","state":"start","mode":null}', m.Listen(m.ListenState.START)
        )
        self.assert_parsed('{"type":"abort","reason":null,"data":null}', m.Abort())

    def test_duplicate_keys_last_wins(self) -> None:
        self.assert_parsed('{"type":"ping","type":"abort"}', m.Abort())
        self.assert_parsed('{"type":"chat","text":"a","text":"b"}', m.Chat("b"))

    def test_session_id_of_any_kind(self) -> None:
        for value in ('""', "null", "5", "{}", '"other"'):
            self.assert_parsed(f'{{"type":"ping","session_id":{value}}}', m.Ping())

    def test_state_text_is_detect(self) -> None:
        self.assert_parsed(
            '{"type":"listen","state":"text","text":"hi"}',
            m.Listen(m.ListenState.DETECT, text="hi"),
        )

    def test_data_that_is_no_object_is_a_member(self) -> None:
        image = '{"type":"image","data":"aGk=","format":"png"}'
        self.assertEqual(parse_device(image), (m.Image(format="png", data=b"hi"), JsonDialect.FLAT))


class BadTextTests(SynchronousTestCase):
    @settings(max_examples=150)
    @given(st.text(max_size=60) | fragments)
    def test_any_text(self, text: str) -> None:
        for parse in (parse_device, parse_server):
            try:
                parse(text)
            except ProtocolError as error:
                self.assertIn(error.code, ("bad_json", "bad_type", "bad_field", "too_deep"))

    @settings(max_examples=100)
    @given(
        st.sampled_from(sorted(jsontext._FROM_DEVICE) + sorted(jsontext._FROM_SERVER)),
        st.dictionaries(
            st.sampled_from(_KEYS),
            wire.json_values,
            max_size=4,
        ),
    )
    def test_any_members(self, kind: str, members: dict[str, str]) -> None:
        inner = ",".join(f'"{k}":{v}' for k, v in members.items())
        for text in (
            f'{{"type":"{kind}"{"," if inner else ""}{inner}}}',
            f'{{"type":"{kind}","data":{{{inner}}}}}',
        ):
            for parse in (parse_device, parse_server):
                try:
                    parse(text)
                except ProtocolError as error:
                    self.assertEqual(error.code, "bad_field")
                    self.assertTrue(error.message.startswith(f"{kind}."), error.message)

    def test_errors_name_the_field(self) -> None:
        for text, name in {
            '{"type":"hello","version":"1"}': "hello.version",
            '{"type":"hello","version":1.5}': "hello.version",
            '{"type":"hello","version":-1}': "hello.version",
            '{"type":"hello","version":1e400}': "hello.version",
            '{"type":"hello","version":99999999999999999999}': "hello.version",
            '{"type":"hello","features":[]}': "hello.features",
            '{"type":"hello","features":{"mcp":1}}': "hello.features.mcp",
            '{"type":"hello","audio_params":{"channels":true}}': "hello.audio_params.channels",
            '{"type":"listen"}': "listen.state",
            '{"type":"listen","state":"begin"}': "listen.state",
            '{"type":"listen","state":"start","mode":"always"}': "listen.mode",
            '{"type":"listen","data":{"state":7}}': "listen.state",
            '{"type":"chat"}': "chat.text",
            '{"type":"image"}': "image.data",
            '{"type":"image","image_data":{"data":"@"}}': "image.image_data.data",
            '{"type":"image","image_data":7}': "image.image_data",
        }.items():
            with self.assertRaises(ProtocolError) as raised:
                parse_device(text)
            self.assertEqual(raised.exception.code, "bad_field", text)
            self.assertTrue(raised.exception.message.startswith(f"{name} "), raised.exception)

    def test_a_servers_time_out_of_range(self) -> None:
        for value in ("-1", "9007199254740992"):
            with self.assertRaises(ProtocolError) as raised:
                parse_server(f'{{"type":"pong","timestamp":{value}}}')
            self.assertEqual(raised.exception.message, "pong.timestamp is out of range")

    def test_a_payload_that_is_no_object_is_not_written(self) -> None:
        for payload in (b"", b"[]", b"x", b'{"a":[1,}'):
            for message in (m.Iot(payload), m.Unknown("x", payload), m.Vision("x", payload)):
                self.assertRaises(ProtocolError, render, message, JsonDialect.FLAT, "s", 0)

    def test_no_type(self) -> None:
        for text in ("{}", '{"type":""}', '{"type":null}', '{"Type":"ping"}'):
            with self.assertRaises(ProtocolError) as raised:
                parse_device(text)
            self.assertEqual(raised.exception.code, "bad_type")

    def test_no_json_object(self) -> None:
        for text in ("", "x", "[]", '"x"', "1", "null", '{"type":"ping"}x', '{"type":"a\ud800"}'):
            with self.assertRaises(ProtocolError) as raised:
                parse_device(text)
            self.assertEqual(raised.exception.code, "bad_json", text)

    def test_depth(self) -> None:
        def nested(depth: int) -> str:
            return f'{{"type":"x","a":{"[" * (depth - 1)}{"]" * (depth - 1)}}}'

        parse_device(nested(32))
        for depth in (33, 1000, 200_000):
            with self.assertRaises(ProtocolError) as raised:
                parse_device(nested(depth))
            self.assertEqual(raised.exception.code, "too_deep")
        with self.assertRaises(ProtocolError) as raised:
            parse_device("[" * 200_000)
        self.assertEqual(raised.exception.code, "too_deep")
        parse_device(nested(40), max_depth=40)

    def test_brackets_in_strings_are_not_depth(self) -> None:
        text = '{"type":"chat","text":"\\"' + "[" * 100 + '"}'
        self.assertEqual(parse_device(text)[0], m.Chat('"' + "[" * 100))
