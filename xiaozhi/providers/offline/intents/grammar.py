"""The phrase book as a grammar for a recogniser."""

from __future__ import annotations

import re
from collections.abc import Iterable

from xiaozhi.base.errors import ConfigError
from xiaozhi.providers.offline.intents.book import spoken_phrases
from xiaozhi.providers.offline.intents.numerals import JSGF_RULES
from xiaozhi.providers.offline.intents.phrases import jsgf_body

# Spoken forms of the book's written forms.
_CONTRACTED = re.compile(r"\b(what|how) is\b")


def jsgf(language: str) -> str:
    """Return a JSGF grammar of everything in the book, in spoken lower-case words.

    The public rule is ``<utterance>``; numbers are 0 to 100.

    :param language: BCP 47; only English has an acoustic model.
    :raises ConfigError: the language has no acoustic model.
    """
    if language.lower().split("-")[0] != "en":
        raise ConfigError(
            f"no offline recognition for language {language!r}: there is a model for 'en' only"
        )
    phrases = spoken_phrases("en")
    lines = ["#JSGF V1.0;", "grammar xiaozhi;", ""]
    # Only this courtesy: each further one reduces the accuracy of everything else.
    lines.append("public <utterance> = [ please ] <intent> [ please ];")
    lines.append(_rule("intent", (f"<{name}>" for name, _ in phrases)))
    lines.extend(_rule(name, map(jsgf_body, alternatives)) for name, alternatives in phrases)
    lines.extend(f"<{name}> = {body};" for name, body in JSGF_RULES.items())
    return _CONTRACTED.sub(r"( \1 is | \1's )", "\n".join(lines)) + "\n"


def words(language: str) -> frozenset[str]:
    """Return every word of :func:`jsgf`, to reduce a pronunciation dictionary to them.

    :raises ConfigError: as :func:`jsgf`.
    """
    rules = jsgf(language).split("\n\n", 1)[1].replace("public ", "")
    return frozenset(re.findall(r"[a-z']+", re.sub(r"<\w+>", " ", rules)))


def _rule(name: str, alternatives: Iterable[str]) -> str:
    return f"<{name}> = {' | '.join(alternatives)};"
