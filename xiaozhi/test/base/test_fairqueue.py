"""The queue in which each owner has a share."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.fairqueue import FairQueue, cut


class CutTests(SynchronousTestCase):
    TABLE = (
        ("", 10, ""),
        ("tea", 10, "tea"),
        ("0123456789", 10, "0123456789"),
        ("0123456789a", 10, "0123456…"),
        ("你好世界", 12, "你好世界"),
        ("你好世界", 11, "你好…"),
        ("🍵🍵🍵", 11, "🍵🍵…"),
        ("x\ud800" * 9, 10, "x?x?x?x…"),
        ("abc", 2, "…"),
    )

    def test_table(self) -> None:
        for text, most, wanted in self.TABLE:
            self.assertEqual(cut(text, most), wanted)


class QueueTests(SynchronousTestCase):
    def test_an_owner_with_much_displaces_no_other(self) -> None:
        queue: FairQueue[str] = FairQueue()
        for number in range(10):
            queue.append(f"small{number}", f"d{number}", 100)
        for number in range(1000):
            queue.append(f"big{number}", "evil", 5000)
            while queue.octets > 20_000:
                queue.drop()
        left = list(queue)
        self.assertEqual(left[:10], [f"small{number}" for number in range(10)])
        self.assertEqual(left[10:], ["big997", "big998", "big999"])

    def test_many_with_much_share_the_rest(self) -> None:
        queue: FairQueue[str] = FairQueue()
        queue.append("good", "good", 1000)
        for number in range(1000):
            queue.append("bad", f"evil{number % 20}", 4000)
            while queue.octets > 100_000:
                queue.drop()
        self.assertIn("good", list(queue))

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["append", "appendleft", "popleft", "drop"]),
                st.sampled_from("abc"),
                st.integers(0, 5000),
            ),
            max_size=80,
        )
    )
    def test_like_a_list(self, steps: list[tuple[str, str, int]]) -> None:
        queue: FairQueue[tuple[int, str, int]] = FairQueue()
        model: list[tuple[int, str, int]] = []
        for number, (step, owner, octets) in enumerate(steps):
            item = (number, owner, octets)
            if step == "append":
                queue.append(item, owner, octets)
                model.append(item)
            elif step == "appendleft":
                queue.appendleft(item, owner, octets)
                model.insert(0, item)
            elif not model:
                continue
            elif step == "popleft":
                self.assertEqual(queue.popleft(), model.pop(0))
            else:
                dropped = queue.drop()
                shares = {o: sum(e[2] for e in model if e[1] == o) for _, o, _ in model}
                self.assertGreaterEqual(2 * shares[dropped[1]] + 1, max(shares.values()))
                self.assertEqual(dropped, next(e for e in model if e[1] == dropped[1]))
                model.remove(dropped)
            self.assertEqual(list(queue), model)
            self.assertEqual((len(queue), queue.octets), (len(model), sum(e[2] for e in model)))
            if model:
                self.assertEqual(queue.oldest(), model[0])
        self.assertEqual(len(queue._shares), len({owner for _, owner, _ in model}))
