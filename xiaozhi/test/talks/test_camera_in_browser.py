"""A browser's camera whose answer contains the picture: the spoken text and the stored dialogue."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from twisted.internet.defer import Deferred

from xiaozhi.base.values import Role
from xiaozhi.providers.offline.intents import IntentModel, IntentSettings
from xiaozhi.test.talks.test_clients import ClientCase
from xiaozhi.testing.house import Browser, House

PICTURE = "data:image/jpeg;base64," + "/9j/4AAQSkZJRgABAQ" * 2500
ASKED = "what do you see"
TOOL = {"type": "object", "properties": {"question": {"type": "string"}}}

# The other contents of the camera's answer, and the spoken text.
ANSWERS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"vision_analysis": {"success": True, "response": "A red cup."}}, "A red cup."),
    (
        {"vision_analysis": {"success": False, "error": "no network", "fallback": "无法连接"}},
        "Sorry, that did not work: no network",
    ),
    ({}, "Sorry, this device does not tell me that."),
)


class CameraTests(ClientCase):
    """A browser's page (§13), with the offline model."""

    def setUp(self) -> None:
        self.kept: list[dict[str, Any]] = []
        self.own: House = self.house(model=IntentModel(IntentSettings(), Random(1)))
        self.page: Browser = self.own.browse()

    def serve(self, tool: str, answer: dict[str, Any]) -> None:
        """Answer every request of the server to the device."""
        house, browser = self.own, self.page
        for _ in range(40):
            house.run(0.1)
            requests, browser.texts = browser.texts, []
            self.kept += requests
            for request in requests:
                if request["type"] == "mcp":
                    payload = request["payload"]
                    result = self.result(payload, tool, answer)
                    reply = {"jsonrpc": "2.0", "id": payload["id"], "result": result}
                    browser.say(type="mcp", payload=reply)

    def result(self, payload: dict[str, Any], tool: str, answer: dict[str, Any]) -> dict[str, Any]:
        if payload["method"] == "tools/list":
            return {"tools": [{"name": tool, "description": "", "inputSchema": TOOL}]}
        if payload["method"] == "tools/call":
            whole = {"success": True, "message": ASKED, "photo_data": PICTURE, **answer}
            return {"content": [{"type": "text", "text": json.dumps(whole)}], "isError": False}
        return {}

    def test_spoken_text(self) -> None:
        self.page.say(type="hello", device_id="02:5a:00:00:00:01", features={"mcp": True})
        for answer, said in ANSWERS:
            self.kept.clear()
            self.serve("self_camera_take_photo", answer)
            self.page.say(type="listen", state="detect", text=ASKED)
            self.serve("self_camera_take_photo", answer)
            sentences = [t["text"] for t in self.kept if t.get("state") == "sentence_start"]
            self.assertEqual(" ".join(sentences), said, answer)

    def test_the_stored_dialogue(self) -> None:
        """No picture in the dialogue that is stored for the device."""
        self.page.say(type="hello", device_id="02:5a:00:00:00:01", features={"mcp": True})
        self.serve("camera_capture", {"response": "A red cup."})
        self.page.say(type="listen", state="detect", text=ASKED)
        self.serve("camera_capture", {"response": "A red cup."})
        calls = [t["payload"]["params"] for t in self.kept if t.get("type") == "mcp"]
        self.assertEqual(calls[-1]["name"], "camera_capture")
        recalled = self.own.history.recall("02:5a:00:00:00:01", 20)
        kept = self.successResultOf(Deferred.fromCoroutine(recalled))
        (result,) = [entry.said.text for entry in kept if entry.said.role is Role.TOOL]
        self.assertIn("A red cup.", result)
        self.assertIn('"photo_data": "[image]"', result)
