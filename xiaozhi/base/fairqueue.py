"""A queue bounded in bytes, with a fair share for each owner."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


def cut(text: str, most: int) -> str:
    """Cut a text to at most ``most`` bytes of UTF-8, between characters."""
    if len(text) * 4 <= most:
        return text
    data = text.encode("utf-8", "replace")
    return text if len(data) <= most else data[: max(0, most - 3)].decode("utf-8", "ignore") + "…"


class _Share:
    """The items of one owner in the queue."""

    __slots__ = ("level", "numbers", "octets")

    def __init__(self) -> None:
        self.level = 0
        self.octets = 0
        self.numbers: deque[int] = deque()


class FairQueue(Generic[T]):
    """A queue, first in, first out, that drops fairly.

    :meth:`drop` removes the oldest item of an owner that has the most, up to a factor of two,
    so no owner displaces the others. All calls take constant time. The caller enforces the
    limit.

    :ivar octets: declared size of all items.
    """

    __slots__ = ("_first", "_items", "_last", "_levels", "_shares", "octets")

    def __init__(self) -> None:
        self.octets = 0
        self._first = self._last = 0
        # By number, in order. Not a dict: repeated removal from its front becomes slow.
        self._items: OrderedDict[int, tuple[T, str, int]] = OrderedDict()
        self._shares: dict[str, _Share] = {}
        # Owners by the number of binary digits of their octets.
        self._levels: dict[int, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return (item for item, _, _ in self._items.values())

    def append(self, item: T, owner: str, octets: int) -> None:
        """Append the newest item."""
        self._last += 1
        self._items[self._last] = (item, owner, octets)
        share = self._shares.get(owner) or self._shares.setdefault(owner, _Share())
        share.numbers.append(self._last)
        self._weigh(owner, share, octets)

    def appendleft(self, item: T, owner: str, octets: int) -> None:
        """Put an item back as the oldest."""
        self._first -= 1
        self._items[self._first] = (item, owner, octets)
        self._items.move_to_end(self._first, last=False)
        share = self._shares.get(owner) or self._shares.setdefault(owner, _Share())
        share.numbers.appendleft(self._first)
        self._weigh(owner, share, octets)

    def oldest(self) -> T:
        """Return the oldest item.

        :raises StopIteration: the queue is empty.
        """
        return next(iter(self))

    def popleft(self) -> T:
        """Remove and return the oldest item.

        :raises KeyError: the queue is empty.
        """
        _, (item, owner, octets) = self._items.popitem(last=False)
        share = self._shares[owner]
        # The oldest of all is the oldest of its owner.
        share.numbers.popleft()
        self._weigh(owner, share, -octets)
        return item

    def drop(self) -> T:
        """Remove and return the oldest item of an owner that has the most.

        :raises ValueError: the queue is empty.
        """
        owner = next(iter(self._levels[max(self._levels)]))
        share = self._shares[owner]
        item, _, octets = self._items.pop(share.numbers.popleft())
        self._weigh(owner, share, -octets)
        return item

    def clear(self) -> None:
        """Remove all items."""
        self.octets = 0
        for each in (self._items, self._shares, self._levels):
            each.clear()

    def _weigh(self, owner: str, share: _Share, octets: int) -> None:
        self.octets += octets
        share.octets += octets
        level = share.octets.bit_length() if share.numbers else -1
        if level == share.level and owner in self._levels.get(level, ()):
            return
        former = self._levels.get(share.level)
        if former is not None:
            former.pop(owner, None)
            if not former:
                del self._levels[share.level]
        share.level = level
        if level < 0:
            del self._shares[owner]
        else:
            self._levels.setdefault(level, {})[owner] = None
