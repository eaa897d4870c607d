"""Tool results as values: finality, the model's text, and media of MCP."""

from __future__ import annotations

import base64
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.toolresult import SILENCE, ToolResult, ToolSound, said
from xiaozhi.base.values import Encoding, SoundFormat
from xiaozhi.tools.device import mcpresult
from xiaozhi.tools.device.mcpresult import result_of
from xiaozhi.tools.results import text_for_model

MP3 = Encoding.MP3
SOUND = ToolSound.of(b"x" * 40_000, SoundFormat(MP3), "A song")


class ToolResultTests(SynchronousTestCase):
    # A result; whether it is final; the model's text.
    ROWS = (
        (ToolResult(), False, ""),
        (ToolResult("it rains"), False, "it rains"),
        (said("Hello."), True, "[said to the person: Hello.]"),
        (ToolResult("id 7", say="Done."), True, "id 7\n[said to the person: Done.]"),
        (SILENCE, True, "[done; nothing to say]"),
        (ToolResult("id 7", silent=True), True, "id 7"),
        (ToolResult(pictures=(b"x",)), False, ""),
        (ToolResult(sounds=(SOUND,)), True, "[played a sound: A song]"),
        (ToolResult("by Bach", sounds=(SOUND,)), False, "by Bach\n[played a sound: A song]"),
        (ToolResult(pictures=(b"x",), sounds=(SOUND,)), False, "[played a sound: A song]"),
        (
            ToolResult("by Bach", silent=True, sounds=(SOUND,)),
            True,
            "by Bach\n[played a sound: A song]",
        ),
    )

    def test_rows(self) -> None:
        for result, final, text in self.ROWS:
            self.assertEqual(result.final, final, text)
            self.assertEqual(text_for_model(result, 1000), text)

    def test_it_is_cut_and_cleaned(self) -> None:
        long = ToolResult("a" * 100, say="data:image/png;base64," + "iVBORw0KGgo1" * 40)
        text = text_for_model(long, 50)
        self.assertEqual(text, "a" * 50 + " … (cut)\n[said to the person: [image]]")

    def test_no_words_in_logs(self) -> None:
        self.assertNotIn("secret", repr(ToolResult("secret", say="secret")))
        self.assertNotIn("song", repr(SOUND))

    def test_a_sound_in_pieces(self) -> None:
        for _ in range(2):
            found: list[bytes] = []

            async def read(into: list[bytes]) -> None:
                async for piece in SOUND.pieces():
                    into.append(piece)

            self.successResultOf(Deferred.fromCoroutine(read(found)))
            self.assertEqual(b"".join(found), b"x" * 40_000)
            self.assertGreater(len(found), 2)


def part(kind: str, data: bytes | str, media_type: str) -> dict[str, Any]:
    coded = data if isinstance(data, str) else base64.b64encode(data).decode()
    return {"type": kind, "data": coded, "mimeType": media_type}


class McpMediaTests(SynchronousTestCase):
    def test_pictures_and_words(self) -> None:
        content = [
            {"type": "text", "text": "the garden"},
            part("image", b"a picture", "image/png"),
        ]
        result = result_of({"content": content})
        self.assertEqual((result.text, result.pictures), ("the garden", (b"a picture",)))
        self.assertFalse(result.final)

    def test_a_sound_alone_is_final(self) -> None:
        result = result_of({"content": [part("audio", b"sound", "audio/mpeg; rate=16000")]})
        (sound,) = result.sounds
        self.assertEqual(
            (sound.format.encoding, result.text, result.final), (Encoding.MP3, "", True)
        )

    def test_structured_words_beside_a_picture(self) -> None:
        result = result_of(
            {"content": [part("image", b"a picture", "image/png")], "structuredContent": {"n": 1}}
        )
        self.assertEqual((result.text, result.pictures), ('{"n":1}', (b"a picture",)))

    def test_unusable_content_is_named(self) -> None:
        self.patch(mcpresult, "MEDIA_LIMIT", 100)
        rows = (
            (part("image", "no base64 at all!", "image/png"), "[a picture: image/png]"),
            (part("image", b"x" * 100, "image/png"), "[a picture: image/png]"),
            (part("image", "", "image/png"), "[a picture: image/png]"),
            (part("audio", b"samples", "audio/L16"), "[a sound: audio/L16]"),
            (part("audio", b"sound", "text/mp3"), "[a sound: text/mp3]"),
            ({"type": "audio", "data": 7, "mimeType": "audio/wav"}, "[a sound: audio/wav]"),
        )
        for content, text in rows:
            result = result_of({"content": [content]})
            self.assertEqual((result.text, result.pictures, result.sounds), (text, (), ()))

    def test_only_a_few(self) -> None:
        result = result_of({"content": [part("image", b"x", "image/png")] * 9})
        self.assertEqual(len(result.pictures), 4)
        self.assertEqual(result.text, "\n".join(["[a picture: image/png]"] * 5))
