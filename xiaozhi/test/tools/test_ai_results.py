"""Tool results without pictures and sound."""
# ruff: noqa: E501 (tables, a row a line)

from __future__ import annotations

import base64
import json
import random
import textwrap
import time

from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.tools.results import for_model, without_media

PICTURE = base64.b64encode(random.Random(1).randbytes(30_000)).decode()
URL_SAFE = base64.urlsafe_b64encode(random.Random(2).randbytes(900)).decode()
URI = f"data:image/jpeg;base64,{PICTURE}"
WORDS = "A red cup on a table. 桌上有一个红色的杯子。"

# Results, and the model's text.
RESULTS = (
    # The page of a browser.
    (
        json.dumps({"success": True, "photo_data": URI, "vision_analysis": {"response": WORDS}}),
        json.dumps({"success": True, "photo_data": "[image]", "vision_analysis": {"response": WORDS}}),
    ),
    # Slashes escaped, as PHP does.
    (
        json.dumps({"photo": URI, "text": WORDS}).replace("/", "\\/"),
        json.dumps({"photo": "[image]", "text": WORDS}),
    ),
    (json.dumps({"data": PICTURE, "mimeType": "image/jpeg"}), '{"data": "[data]", "mimeType": "image/jpeg"}'),
    (json.dumps({"audio": URL_SAFE}), '{"audio": "[data]"}'),
    # Several lines.
    (json.dumps({"data": "\n".join(textwrap.wrap(PICTURE, 76))}), '{"data": "[data]"}'),
    ("\n".join(textwrap.wrap(PICTURE, 76)) + "\n" + WORDS, "[data]\n" + WORDS),
    # JSON within JSON.
    (
        json.dumps({"result": json.dumps({"image": URI, "text": "A cup."})}),
        json.dumps({"result": json.dumps({"image": "[image]", "text": "A cup."})}),
    ),
    # Text, and truncated text.
    (f"Here: ![photo]({URI}) {WORDS}", f"Here: ![photo]([image]) {WORDS}"),
    (f'<img src="{URI}"> {WORDS}', f'<img src="[image]"> {WORDS}'),
    ('{"photo_data": "' + URI, '{"photo_data": "[image]'),
    (f"data:audio/wav;rate=16000;base64,{PICTURE}", "[audio]"),
    (f'{{"svg": "data:image/svg+xml,%3Csvg%20{"a1" * 300}"}}', '{"svg": "[image]"}'),
    # Bytes.
    (
        json.dumps({"type": "Buffer", "data": list(range(200)), "text": WORDS}, ensure_ascii=False),
        '{"type": "Buffer", "data": "[data]", "text": "' + WORDS + '"}',
    ),
    ("ffd8ffe0" * 100, "[data]"),
    # Words are not media.
    (WORDS, WORDS),
    ("a" * 500, "a" * 500),
    ("The hash is " + "0a" * 32, "The hash is " + "0a" * 32),
    ("word " * 200, "word " * 200),
    (json.dumps(list(range(20))), json.dumps(list(range(20)))),
    ("data: 5 km", "data: 5 km"),
    (json.dumps({"temperatures": [20.5, 21.0] * 40}), json.dumps({"temperatures": [20.5, 21.0] * 40})),
    ("", ""),
)  # fmt: skip


class ResultTests(SynchronousTestCase):
    """:func:`without_media`, :func:`for_model`."""

    def test_results(self) -> None:
        for result, read in RESULTS:
            self.assertEqual(without_media(result), read, result[:200])

    def test_words_behind_a_picture_are_not_cut_off(self) -> None:
        result = json.dumps({"photo_data": URI, "response": WORDS}, ensure_ascii=False)
        self.assertGreater(len(result), 8000)
        self.assertIn(WORDS, for_model(result, 8000))

    def test_long_words_are_cut(self) -> None:
        self.assertEqual(for_model("word " * 5, 9), "word word … (cut)")

    def test_quick(self) -> None:
        """Results come from devices: none may block the service."""
        parts = (
            "a",
            "a1",
            "data:",
            "data:a/b,",
            "data:a/b;c",
            "1,",
            "\\n",
            "a\\/",
            "[1,",
            "a1 ",
            "+",
        )
        for part in (*parts, "a1" * 20 + " ", "a" * 39 + "\n", "data:a/b;base64,a ", "-1 , "):
            result = (part * 500_000)[:500_000]
            began = time.process_time()
            without_media(result)
            # Far above the usual time, to catch exponential time only.
            self.assertLess(time.process_time() - began, 1.0, part)
