"""Read-ahead buffer for a stream of sound."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable

from twisted.internet.defer import CancelledError, Deferred

from xiaozhi.base.values import SoundFormat
from xiaozhi.runtime.cancelling import Gate

#: See :class:`~xiaozhi.interfaces.ISynthesizer`.
Sound = bytes | SoundFormat

#: Reads a stream and awaits the given function for each piece.
Read = Callable[[Callable[[Sound], Awaitable[None]]], Awaitable[None]]


class ReadAhead:
    """Reads a stream into a buffer.

    Bound: at ``most`` bytes, reading pauses until the buffer is at half of that.
    """

    def __init__(self, read: Read, most: int) -> None:
        """:param read: reads the stream to its end and closes it."""
        self._read_all = read
        self._most = most
        self._pieces: deque[Sound] = deque()
        self._size = 0
        self._room = Gate(is_open=True)
        self._news = Gate(is_open=False)
        self._over = False
        self._failure: Exception | None = None
        self._reading: Deferred[None] | None = None

    def start(self) -> None:
        """Start to read. Idempotent."""
        if self._reading is None:
            self._reading = Deferred.fromCoroutine(self._read())

    def cancel(self) -> None:
        """Stop reading and close the stream; :meth:`pieces` then ends without an error.
        Idempotent."""
        if self._reading is not None:
            self._reading.cancel()

    @property
    def ready(self) -> bool:
        """Whether :meth:`pieces` yields or ends without a wait."""
        return bool(self._pieces) or (self._over and self._failure is None)

    async def pieces(self) -> AsyncGenerator[Sound, None]:
        """Yield the pieces of the stream; start to read if necessary.

        An error of the stream is raised after the pieces before it.
        """
        self.start()
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                self._size -= _size(piece)
                if self._size <= self._most // 2:
                    self._room.open()
                yield piece
            if self._failure is not None:
                raise self._failure
            if self._over:
                return
            self._news.close()
            await self._news.passed()

    async def _read(self) -> None:
        try:
            await self._read_all(self._take)
        except CancelledError:
            return
        except Exception as error:
            self._failure = error
        finally:
            self._over = True
            self._news.open()

    async def _take(self, piece: Sound) -> None:
        self._pieces.append(piece)
        self._size += _size(piece)
        self._news.open()
        if self._size >= self._most:
            self._room.close()
            await self._room.passed()


def _size(piece: Sound) -> int:
    return len(piece) if isinstance(piece, bytes) else 0
