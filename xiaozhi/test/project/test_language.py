"""Documents, docstrings, comments and messages use the terms of docs/glossary.md."""

from __future__ import annotations

import re
from collections.abc import Iterator

from twisted.trial import unittest

from xiaozhi.test.project.test_laws import files, sources

# Phrases that read as a translation, each with what to write instead.
PHRASES = {
    "by and by": "gradually, or nothing",
    "is told": "receives, is notified; or an active verb",
    "are told": "receive, are notified; or an active verb",
    "is none of": "is not one of",
    "are none of": "are not among",
    "taken up again": "resumed",
    "take up again": "resume",
    "takes up again": "resumes",
    "left alone": "circuit open, or unchanged",
    "takes the place of": "replaces",
    "what came of": "the result of",
    "nobody wants": "name the state",
    "whom we": "name the party",
    "tells of it": "logs it",
    "is not told": "is not notified",
    "goes on undisturbed": "is not affected",
    "comes right by itself": "recovers",
    "whoever": "a client that, any client, the owner",
    "at one go": "at once",
    "taken for": "considered, marked as, mistaken for",
    "as it stands": "unchanged, or by default",
    "stands here": "is here",
    "put up with": "tolerated",
    "waits for company": "waits for more to send",
    "if need be": "if necessary",
    "cannot be had": "is unavailable",
    "could not be had": "was not available",
    "nobody asked": "not requested",
    "once a question": "once per question",
    "once a turn": "once per turn",
    "must say the same": "needs the same value",
    "summed up": "summarised",
    "thinks aloud": "writes its reasoning",
    "and the like": "and similar, or name them",
    "the talk": "the conversation, the dialogue",
    "a talk": "a conversation",
    "in mid talk": "during a conversation",
    "gone on from": "continued",
    "has next to no": "has almost no",
    "wherefrom": "from which",
    "of which each": "each of which",
}
# Words that the glossary replaced, as whole words in any case.
RETIRED = {
    "figures": "metrics or measurements",
    "vigil": "watchdog",
    "desk": "scheduler",
    "draft": "pending answer",
    "mouth": "speech output",
    "album": "picture store",
    "bargein": "interruption",
    "whereabouts": "presence backend",
    "upkeep": "periodic job",
    "rehearsal": "phrase prewarming",
    "rehearsed": "prewarmed",
    "ears": "utterance listener or recogniser",
}
# Class names that moved to the field's terms.
CLASSES = {
    "Floor": "TurnControl",
    "Ears": "UtteranceListener",
    "Mouth": "SpeechOutput",
    "Mind": "TurnContext",
    "Assistant": "SharedServices",
    "Ring": "FailoverGroup",
    "Lane": "StreamSlot",
    "Vigil": "Watchdog",
    "Desk": "Scheduler",
    "Tray": "Inbox",
    "Figures": "Metrics",
    "Whereabouts": "PresenceBackend",
    "Album": "PictureStore",
    "Rehearsal": "Prewarming",
    "Upkeep": "PeriodicJob",
}
# They list the retired terms.
EXEMPT = ("docs/glossary.md", "xiaozhi/test/project/test_language.py")

# Words that make the name of a test a clause instead of a statement of behaviour.
CLAUSES = "nobody|somebody|everybody|told|who|whom|whoever|whatever"

_GAP = r"(?:\s|#|\*|\")+"


def language_law(path: str, text: str) -> Iterator[str]:
    """Name each phrase and word that must not come back, with its replacement."""
    lowered = text.lower()
    for phrase, instead in PHRASES.items():
        if not all(word in lowered for word in phrase.split()):
            continue
        pattern = r"(?i)\b" + _GAP.join(phrase.split()) + r"\b"
        yield from _breaches(path, text, pattern, instead)
    for word, instead in RETIRED.items():
        if word not in lowered:
            continue
        yield from _breaches(path, text, rf"(?i)(?<![a-z]){word}(?![a-z])", instead)
    if path.endswith(".py"):
        for name, instead in CLASSES.items():
            yield from _breaches(path, text, rf"(?m)^class _?{name}\b", instead)
        clause = r'"""(?:What|Whatever|Who|Whoever|Whom|Whose)\b'
        yield from _breaches(path, text, clause, "a docstring begins with a verb or a noun")
        name = rf"def test_(?:\w+_)?(?:{CLAUSES})(?:_\w+)?\b"
        yield from _breaches(path, text, name, "the name of a test states behaviour")


def _breaches(path: str, text: str, pattern: str, instead: str) -> Iterator[str]:
    for found in re.finditer(pattern, text):
        line = text.count("\n", 0, found.start()) + 1
        written = " ".join(found.group().split())
        yield f"{path}:{line}: {written!r}; write: {instead}"


class LanguageTests(unittest.SynchronousTestCase):
    def test_documents(self) -> None:
        documents = {
            path: text
            for path, text in files().items()
            if path.endswith(".md") and path not in EXEMPT
        }
        self.assertGreater(len(documents), 8)
        self.assert_kept(documents)

    def test_program(self) -> None:
        tree = {
            path: text
            for path, text in {
                **sources("xiaozhi/", "tests/", "benchmarks/"),
                **self.samples(),
            }.items()
            if path not in EXEMPT
        }
        for folder in ("xiaozhi/test/", "tests/", "benchmarks/", "etc/"):
            self.assertTrue(any(path.startswith(folder) for path in tree), folder)
        self.assert_kept(tree)

    def samples(self) -> dict[str, str]:
        """The configuration files, whose comments people read first."""
        return {path: text for path, text in files().items() if path.startswith("etc/")}

    def assert_kept(self, texts: dict[str, str]) -> None:
        found = [breach for path, text in texts.items() for breach in language_law(path, text)]
        self.assertEqual(found, [], "\n".join(["", *found]))

    def test_the_law_finds_a_breach(self) -> None:
        for text in (
            "It goes on by and by.",
            "# The edge is\n    # told at once.",
            "What came\nof it",
            "self._figures = 1",
            "class Lane:",
            "class _Mind(Object):",
            '"""What a device sends."""',
            "def test_who_is_there(self):",
            "def test_an_error_is_told(self):",
        ):
            self.assertEqual(len(list(language_law("xiaozhi/a.py", text))), 1, text)
        for text in (
            "standby and bye",
            "a figure",
            "class Earshot:",
            "Mind the gap",
            '"""Whether it is."""',
            "def test_whole_answers(self):",
            "def whom(self):",
        ):
            self.assertEqual(list(language_law("xiaozhi/a.py", text)), [], text)


class DocumentTests(unittest.SynchronousTestCase):
    def test_seven_files_show_the_program(self) -> None:
        """docs/architecture.md names seven files that together are short enough to read."""
        text = files()["docs/architecture.md"]
        listed = text.partition("<!-- seven: begin -->")[2].partition("<!-- seven: end -->")[0]
        named = re.findall(r"^\d\. `([\w/.]+)`", listed, re.MULTILINE)
        self.assertEqual(len(named), 7)
        lines = {path: files()[path].count("\n") for path in named}
        self.assertLess(sum(lines.values()), 1800, lines)

    def test_every_room_is_described(self) -> None:
        """docs/architecture.md has a row for each room, alone or with its neighbours."""
        text = files()["docs/architecture.md"]
        cells = "".join(re.findall(r"(?m)^\| (`[\w/]+/`.*?) \|", text))
        described = {room.strip("/") for room in re.findall(r"`([\w/]+/)`", cells)}
        rooms = {
            path.removeprefix("xiaozhi/").removesuffix("/__init__.py")
            for path in sources("xiaozhi/")
            if path.endswith("/__init__.py")
            and not path.startswith(("xiaozhi/test", "xiaozhi/__init__"))
        }
        self.assertGreater(len(rooms), 30)
        # A folder that only holds rooms is described by them, a vendor's by its purpose.
        missing = {
            room
            for room in rooms - described
            if not any(name.startswith(room + "/") for name in described)
            and not re.fullmatch(r"providers/(?!kit|offline|doubles)\w+", room)
        }
        self.assertEqual(missing, set())
