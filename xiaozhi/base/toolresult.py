"""Results of tools: text for the model, words to say, silence, pictures, sound."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from xiaozhi.base.values import SoundFormat

#: How the result of a call begins that waits for the person's yes.
UNCONFIRMED_CALL = "Not run: it needs the person's spoken yes"

#: Bytes in one piece of a sound that lies in memory.
_PIECE = 16 * 1024


@dataclass(frozen=True, slots=True, repr=False)
class ToolSound:
    """Sound that a tool gives, played as speech of the turn.

    :ivar format: of the sound. Containers (wav, MP3, Ogg/Opus) are recognised by their bytes.
    :ivar pieces: begins the sound anew and yields it in order; closed if nobody listens any
        more. May raise :class:`~xiaozhi.base.errors.ProviderError`.
    :ivar title: shown on the display while it plays; empty: a note sign.
    """

    format: SoundFormat
    pieces: Callable[[], AsyncGenerator[bytes, None]]
    title: str = ""

    @classmethod
    def of(cls, data: bytes, form: SoundFormat, title: str = "") -> ToolSound:
        """Wrap sound that lies in memory."""

        async def pieces() -> AsyncGenerator[bytes, None]:
            for at in range(0, len(data), _PIECE):
                yield data[at : at + _PIECE]

        return cls(form, pieces, title)


@dataclass(frozen=True, slots=True, repr=False)
class ToolResult:
    """The result of a tool.

    Without :attr:`say`, :attr:`silent` and :attr:`sounds` the model is asked again and
    answers with what it has read. Otherwise the result is :attr:`final`.

    :ivar text: for the model; beside ``say`` and ``silent`` only for the dialogue, so that
        the model knows of it later.
    :ivar say: words to say exactly so, without asking the model again.
    :ivar silent: say nothing, and do not ask the model again.
    :ivar pictures: encoded pictures (JPEG, PNG, GIF, WebP, BMP). The vision model describes
        them, and the description is added to the text.
    :ivar sounds: played in order, after ``say``.
    """

    text: str = ""
    say: str = ""
    silent: bool = False
    pictures: tuple[bytes, ...] = ()
    sounds: tuple[ToolSound, ...] = ()

    @property
    def final(self) -> bool:
        """Whether the model need not be asked again. A sound beside a text is not final, nor
        are pictures: the model is to read about them."""
        if self.say or self.silent:
            return True
        return bool(self.sounds) and not (self.text or self.pictures)

    def __repr__(self) -> str:
        # Never the words: results reach logs.
        return f"<ToolResult{', final' if self.final else ''}>"


def said(words: str) -> ToolResult:
    """Make a result that is spoken as it is, without asking the model again."""
    return ToolResult(say=words)


SILENCE = ToolResult(silent=True)
"""The tool has done it, and nothing is to be said."""
