"""Server-sent events in any pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.providers.kit.sse import EventStream

LINES = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20)
EVENTS = st.lists(st.lists(LINES, min_size=1, max_size=3), max_size=6)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


def read(*chunks: bytes) -> list[str]:
    stream = EventStream()
    events = [event for chunk in chunks for event in stream.feed(chunk)]
    return events + stream.finish()


class EventStreamTests(SynchronousTestCase):
    """:class:`EventStream`."""

    def test_with_and_without_space(self) -> None:
        self.assertEqual(read(b"data: a\n\ndata:b\n\ndata:  c\n\n"), ["a", "b", " c"])

    def test_comments_and_other_fields_are_skipped(self) -> None:
        data = b": keep-alive\n\nevent: x\nid: 1\ndata: a\nretry: 3\n\n:\n\ndatum: b\n\n"
        self.assertEqual(read(data), ["a"])

    def test_lines_of_one_event_are_joined(self) -> None:
        self.assertEqual(read(b"data: a\ndata\ndata: b\n\n"), ["a\n\nb"])

    def test_a_line_end_cut_in_two(self) -> None:
        self.assertEqual(read(b"data: a\r", b"\ndata: b\r", b"", b"\n\r", b"\n"), ["a\nb"])

    def test_an_event_is_given_out_at_once(self) -> None:
        stream = EventStream()
        self.assertEqual(stream.feed(b"data: a\n\ndata: b"), ["a"])
        self.assertEqual(stream.feed(b"\r\r"), ["b"])

    def test_the_last_event_needs_no_blank_line(self) -> None:
        self.assertEqual(read(b"data: a\n\ndata: b"), ["a", "b"])
        self.assertEqual(read(b"data: b\n"), ["b"])

    def test_byte_order_mark(self) -> None:
        self.assertEqual(read(b"\xef\xbb", b"\xbfdata: a\n\n"), ["a"])

    def test_unicode_line_ends_are_not_line_ends(self) -> None:
        self.assertEqual(read("data: a\u2028b\x85c\n\n".encode()), ["a\u2028b\x85c"])

    def test_too_long(self) -> None:
        for chunk in (b"data: aaaaaaaaaa", b"data: aaaa\ndata: aaaa\n"):
            stream = EventStream(limit=12)
            with self.assertRaises(ValueError):
                stream.feed(chunk)

    @given(EVENTS, st.data())
    def test_any_line_ends_and_any_pieces(
        self, events: list[list[str]], data: st.DataObject
    ) -> None:
        text = b""
        for event in events:
            for line in event:
                text += b"data: " + line.encode() + data.draw(ENDS)
            # A lone CR before an LF would be one line end, not two.
            end = data.draw(ENDS)
            text += b":\n" + end if text.endswith(b"\r") and end == b"\n" else end
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
        chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        expected = ["\n".join(event) for event in events]
        self.assertEqual(read(*chunks), expected)

    @given(st.lists(st.binary(max_size=40), max_size=10))
    def test_any_bytes(self, chunks: list[bytes]) -> None:
        self.assertEqual(read(*chunks), read(b"".join(chunks)))
