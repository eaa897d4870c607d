"""Newline-delimited JSON in any pieces."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.providers.kit.ndjson import JsonLines

VALUES = st.lists(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=6,
)


def read(*chunks: bytes) -> list[Any]:
    lines = JsonLines()
    values = [value for chunk in chunks for value in lines.feed(chunk)]
    return values + lines.finish()


class JsonLinesTests(SynchronousTestCase):
    @given(VALUES, st.lists(st.integers(0, 400)), st.sampled_from([b"\n", b"\r\n"]))
    def test_cut_into_any_pieces(self, values: list[Any], cuts: list[int], end: bytes) -> None:
        data = b"".join(json.dumps(value).encode() + end for value in values)
        places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        pieces = [data[a:b] for a, b in pairwise(places)]
        self.assertEqual(read(*pieces), values)

    def test_a_value_is_given_out_at_once(self) -> None:
        lines = JsonLines()
        self.assertEqual(lines.feed(b'{"a": 1}\n{"b"'), [{"a": 1}])
        self.assertEqual(lines.feed(b": 2}"), [])
        self.assertEqual(lines.finish(), [{"b": 2}])

    def test_blank_lines_and_a_mark(self) -> None:
        self.assertEqual(read(b"\xef\xbb\xbf1\n\n  \r\n2\n"), [1, 2])

    def test_text_that_is_no_utf8(self) -> None:
        self.assertEqual(read(b'"a\xffb"\n'), ["a\ufffdb"])

    def test_a_cut_off_end(self) -> None:
        lines = JsonLines()
        lines.feed(b'{"a": 1}\n{"b": ')
        self.assertRaises(ValueError, lines.finish)
        self.assertEqual(lines.finish(), [])

    def test_lines_that_are_not_json(self) -> None:
        for line in (b"<html>\n", b"{'a': 1}\n", b"[" * 100_000 + b"\n", b"nul\n"):
            self.assertRaises(ValueError, JsonLines().feed, line)

    def test_a_line_over_the_limit(self) -> None:
        self.assertEqual(JsonLines(limit=10).feed(b'"12345678"\n' * 3), ["12345678"] * 3)
        self.assertRaises(ValueError, JsonLines(limit=10).feed, b'"123456789"\n')
        lines = JsonLines(limit=10)
        lines.feed(b'"1234567')
        self.assertRaises(ValueError, lines.feed, b"8901")
