"""Assembly of tool calls."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import ToolCall
from xiaozhi.providers.openai.delta import CallAssembly


def delta(index: int | None, call_id: str | None, name: str | None, args: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {"function": {"name": name, "arguments": args}}
    if index is not None:
        entry["index"] = index
    if call_id is not None:
        entry["id"] = call_id
    return entry


class CallAssemblyTests(SynchronousTestCase):
    """:class:`CallAssembly` with the deviations of vendors."""

    def check(self, deltas: list[dict[str, Any]], *expected: tuple[str, str, str]) -> None:
        ids = iter(("new1", "new2", "new3"))
        calls = CallAssembly(lambda: next(ids))
        for entry in deltas:
            calls.feed(entry)
        self.assertEqual(calls.finish(), [ToolCall(*call) for call in expected])

    def test_as_specified(self) -> None:
        self.check(
            [
                delta(0, "a", "f", ""),
                delta(0, None, None, '{"x"'),
                delta(1, "b", "g", ""),
                delta(0, None, None, ":1}"),
                delta(1, None, None, "{}"),
            ],
            ("a", "f", '{"x":1}'),
            ("b", "g", "{}"),
        )

    def test_no_index(self) -> None:
        self.check(
            [
                delta(None, "a", "f", '{"x":'),
                delta(None, None, None, "1}"),
                delta(None, "b", "g", ""),
            ],
            ("a", "f", '{"x":1}'),
            ("b", "g", "{}"),
        )

    def test_index_0_for_all(self) -> None:
        self.check(
            [delta(0, "a", "f", "{}"), delta(0, "b", "f", "{}")], ("a", "f", "{}"), ("b", "f", "{}")
        )

    def test_whole_calls_without_ids_and_with_objects(self) -> None:
        self.check(
            [delta(None, "", "f", {"x": "日"}), delta(0, "", "g", "{}"), delta(0, "", "g", "{}")],
            ("new1", "f", '{"x": "日"}'),
            ("new2", "g", "{}"),
            ("new3", "g", "{}"),
        )

    def test_id_and_name_come_again(self) -> None:
        self.check(
            [delta(0, "a", "f", ""), delta(0, "a", "f", '{"x":'), delta(0, "", "", "1}")],
            ("a", "f", '{"x":1}'),
        )

    def test_id_comes_late(self) -> None:
        self.check([delta(0, None, "f", '{"x":'), delta(0, "a", None, "1}")], ("a", "f", '{"x":1}'))

    def test_calls_that_do_not_end(self) -> None:
        for more in (delta(0, "a", "f", "x" * 10), delta(None, None, "f", "{}")):
            calls = CallAssembly(str, limit=100)
            with self.assertRaises(ProviderError) as caught:
                for _ in range(101):
                    calls.feed(more)
            self.assertEqual(caught.exception.code, "bad_answer")

    def test_junk(self) -> None:
        self.check([{}, {"function": None, "index": "x"}, delta(3, None, None, "{}")])
