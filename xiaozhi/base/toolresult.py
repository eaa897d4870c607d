"""Results of tools: text for the model, words to say, silence, pictures, sound."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from xiaozhi.base.values import SoundFormat

#: Beginning of the result of a call that waits for the person's yes.
UNCONFIRMED_CALL = "Not run: it needs the person's spoken yes"

#: Bytes in one piece of a sound in memory.
_PIECE = 16 * 1024


@dataclass(frozen=True, slots=True, repr=False)
class ToolSound:
    """Sound of a tool, played as speech of the turn.

    :ivar format: format of the sound; containers (wav, MP3, Ogg/Opus) are recognised by their
        bytes.
    :ivar pieces: yields the sound from its beginning; closed early if the rest is not played.
        May raise :class:`~xiaozhi.base.errors.ProviderError`.
    :ivar title: displayed while it plays; empty: a note sign.
    """

    format: SoundFormat
    pieces: Callable[[], AsyncGenerator[bytes, None]]
    title: str = ""

    @classmethod
    def of(cls, data: bytes, form: SoundFormat, title: str = "") -> ToolSound:
        """Wrap sound in memory."""

        async def pieces() -> AsyncGenerator[bytes, None]:
            for at in range(0, len(data), _PIECE):
                yield data[at : at + _PIECE]

        return cls(form, pieces, title)


@dataclass(frozen=True, slots=True, repr=False)
class ToolResult:
    """The result of a tool.

    Without :attr:`say`, :attr:`silent` and :attr:`sounds`, the model is asked again and answers
    from the text. Otherwise the result is :attr:`final`.

    :ivar text: text for the model; with ``say`` or ``silent``, it is only kept in the dialogue.
    :ivar say: words to speak verbatim, without asking the model again.
    :ivar silent: whether to say nothing and not to ask the model again.
    :ivar pictures: encoded pictures (JPEG, PNG, GIF, WebP, BMP). The vision model describes
        them, and the descriptions are added to the text.
    :ivar sounds: sounds to play in order, after ``say``.
    """

    text: str = ""
    say: str = ""
    silent: bool = False
    pictures: tuple[bytes, ...] = ()
    sounds: tuple[ToolSound, ...] = ()

    @property
    def final(self) -> bool:
        """Whether the model is not asked again. A sound with a text is not final, nor are
        pictures: the model must read about them."""
        if self.say or self.silent:
            return True
        return bool(self.sounds) and not (self.text or self.pictures)

    def __repr__(self) -> str:
        # Without the text: results reach logs.
        return f"<ToolResult{', final' if self.final else ''}>"


def said(words: str) -> ToolResult:
    """Return a result that is spoken verbatim, without asking the model again."""
    return ToolResult(say=words)


SILENCE = ToolResult(silent=True)
"""The result of a tool that succeeded and has nothing to say."""
