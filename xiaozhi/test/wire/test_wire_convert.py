"""Conversion between messages and protobuf: :mod:`xiaozhi.wire.convert`."""

from __future__ import annotations

import typing

from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi._pb import ai_service_pb2 as pb
from xiaozhi.base.errors import ProtocolError
from xiaozhi.testing import wire
from xiaozhi.wire import convert
from xiaozhi.wire import messages as m

sequences = st.integers(0, 2**64 - 1)


class RoundTripTests(SynchronousTestCase):
    @given(
        st.one_of(wire.uplinks, wire.session_opens, wire.session_closes),
        wire.words,
        sequences,
    )
    def test_requests(self, message: convert.FromEdge, session: str, sequence: int) -> None:
        if isinstance(message, m.SessionOpen):
            session = message.session_id
        data = convert.request(message, session, sequence).SerializeToString()
        item = pb.ChatRequest.FromString(data)
        self.assertEqual(convert.read_request(item), message)
        self.assertEqual((item.session_id, item.sequence), (session, sequence))
        self.assertNotEqual(item.type, pb.MESSAGE_TYPE_UNSPECIFIED)

    @given(st.one_of(wire.downlinks, wire.session_closes), wire.words, sequences)
    def test_responses(self, message: convert.FromAI, session: str, sequence: int) -> None:
        data = convert.response(message, session, sequence).SerializeToString()
        item = pb.ChatResponse.FromString(data)
        self.assertEqual(convert.read_response(item), message)
        self.assertEqual((item.session_id, item.sequence), (session, sequence))
        self.assertNotEqual(item.type, pb.RESPONSE_TYPE_UNSPECIFIED)

    @given(wire.audio_up, wire.audio_down, wire.words, sequences)
    def test_audio_is_written_as_protobuf_writes_it(
        self, up: m.Audio, down: m.Audio, session: str, sequence: int
    ) -> None:
        item = pb.ChatRequest.FromString(convert.request_audio(session)(up, sequence))
        self.assertEqual(item, convert.request(up, session, sequence))
        answer = pb.ChatResponse.FromString(convert.response_audio(session)(down, sequence))
        self.assertEqual(answer, convert.response(down, session, sequence))

    def test_a_negative_number_is_refused(self) -> None:
        with self.assertRaises(ValueError):
            convert.request_audio("s")(m.Audio(b"", -1), 1)

    @given(wire.json_objects)
    def test_payloads_travel_as_bytes(self, payload: bytes) -> None:
        spaced = payload.replace(b",", b" ,\n")
        item = convert.request(m.Mcp(spaced), "s", 1)
        self.assertEqual(item.mcp.payload, spaced)

    def test_every_message_has_a_form(self) -> None:
        """The tables are complete; a message added later cannot be forgotten."""
        for kind in typing.get_args(m.Uplink):
            if kind is not m.Audio:
                self.assertIn(kind, convert._REQUEST)
        for kind in typing.get_args(m.Downlink):
            if kind is not m.Audio:
                self.assertIn(kind, convert._RESPONSE)


class BadItemTests(SynchronousTestCase):
    def test_empty(self) -> None:
        with self.assertRaises(ProtocolError) as raised:
            convert.read_request(pb.ChatRequest())
        self.assertEqual(raised.exception.code, "bad_request")
        with self.assertRaises(ProtocolError) as raised:
            convert.read_response(pb.ChatResponse())
        self.assertEqual(raised.exception.code, "bad_response")

    def test_a_later_version(self) -> None:
        # An unknown type with known content is read by its content.
        item = pb.ChatRequest(type=99, chat=pb.Chat(text="hi"))  # type: ignore[arg-type]
        self.assertEqual(convert.read_request(item), m.Chat("hi"))

    def test_bad_enumerations_name_the_field(self) -> None:
        items = {
            "listen.state": pb.ChatRequest(listen=pb.Listen(state="x", mode="auto")),
            "listen.mode": pb.ChatRequest(listen=pb.Listen(state="stop", mode="x")),
            "playback.state": pb.ChatRequest(playback=pb.Playback(state="x")),
        }
        for name, item in items.items():
            with self.assertRaises(ProtocolError) as raised:
                convert.read_request(item)
            self.assertIn(name, raised.exception.message)
        with self.assertRaises(ProtocolError) as raised:
            convert.read_response(pb.ChatResponse(tts=pb.Tts(state="x")))
        self.assertIn("tts.state", raised.exception.message)

    @given(st.binary(max_size=60))
    def test_any_bytes(self, data: bytes) -> None:
        def request() -> None:
            convert.read_request(pb.ChatRequest.FromString(data))

        def response() -> None:
            convert.read_response(pb.ChatResponse.FromString(data))

        for read in (request, response):
            try:
                read()
            except ProtocolError as error:
                self.assertIn(error.code, ("bad_request", "bad_response", "bad_field"))
            except DecodeError:
                pass  # not protobuf: gRPC handles it
