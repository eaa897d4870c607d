"""The offline model and tools: the called tool, and the spoken part of its result."""
# ruff: noqa: E501 (tables, a row a line)

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.values import Role, TextDelta, ToolCall, ToolSpec, Utterance
from xiaozhi.providers.offline.intents import IntentModel, IntentSettings
from xiaozhi.providers.offline.intents.findings import failed, read_result, reason_in, words_in
from xiaozhi.providers.offline.intents.toolkinds import TOOL_KINDS, OfferedTools, read_kinds
from xiaozhi.tools.results import for_model

NUMBER, TEXT = {"type": "integer"}, {"type": "string"}

# A tool's name, its description and arguments, and its kind; empty: none.
KINDS: tuple[tuple[str, str, Mapping[str, Any], str], ...] = (
    ("self_camera_take_photo", "", {"question": TEXT}, "photo"),
    ("self.camera.take_photo", "", {"question": TEXT}, "photo"),
    ("camera_capture", "", {}, "photo"),
    ("takePhoto", "", {"prompt": TEXT}, "photo"),
    ("take_picture", "", {}, "photo"),
    ("capture_image", "", {}, "photo"),
    ("camera_snapshot", "", {}, "photo"),
    ("camera_explain", "", {"question": TEXT}, "photo"),
    ("describe_scene", "", {}, "photo"),
    ("拍照", "", {}, "photo"),
    ("Camera_Photo", "", {}, "photo"),
    ("_7f3a", "拍照并描述画面", {}, "photo"),
    ("tool_7", "Takes a picture with the camera. Call it when asked what you see.", {}, "photo"),
    ("eye", "Look through the camera and describe what is there", {}, "photo"),
    ("screen_snapshot", "", {}, ""),
    ("delete_photo", "Deletes a photo", {}, ""),
    ("search_image", "Search pictures on the web", {}, ""),
    ("take_screenshot", "Take a picture of the screen", {}, ""),
    ("set_camera_flash", "", {"on": {"type": "boolean"}}, ""),
    ("self_audio_speaker_set_volume", "", {"volume": NUMBER}, "volume"),
    ("Speaker_SetVolume", "", {"volume": NUMBER}, "volume"),
    ("set_volume", "", {"value": NUMBER}, "volume"),
    ("volume", "", {"level": {"type": "number"}}, "volume"),
    ("设置音量", "", {"音量": NUMBER}, "volume"),
    ("x1", "设置音量", {"v": NUMBER}, "volume"),
    ("x2", "Sets the volume of the speaker, 0 to 100", {"v": NUMBER}, "volume"),
    ("get_volume", "Get the volume", {}, ""),
    ("volume_up", "", {}, ""),
    ("docker_volume_create", "", {"name": TEXT}, ""),
    ("self_screen_set_brightness", "", {"brightness": NUMBER}, "brightness"),
    ("Screen_SetBrightness", "", {"brightness": NUMBER}, "brightness"),
    ("backlight", "", {"percent": NUMBER}, "brightness"),
    ("调节亮度", "", {"亮度": NUMBER}, "brightness"),
    ("lamp_set_brightness", "", {"brightness": NUMBER}, ""),
    ("self_screen_set_theme", "", {"theme": TEXT}, "theme"),
    ("setTheme", "", {"mode": TEXT}, "theme"),
    ("切换主题", "", {"主题": TEXT}, "theme"),
    ("self_get_device_status", "", {}, "status"),
    ("getDeviceState", "", {}, "status"),
    ("device_info", "", {}, "status"),
    ("查询设备状态", "", {}, "status"),
    ("q", "Provides the real-time information of the device, including volume.", {}, "status"),
    ("get_order_status", "", {}, ""),
    ("get_time", "", {}, "time"),
    ("getCurrentTime", "", {}, "time"),
    ("set_timer", "", {}, ""),
    ("get_date", "", {}, "date"),
    ("handle_exit_intent", "", {}, "end"),
    ("end_chat", "", {}, "end"),
    ("play_music", "Plays music", {"name": TEXT}, ""),
    ("get_weather", "Get the weather", {"city": TEXT}, ""),
)  # fmt: skip

# The spoken request, the offered tool, and the arguments of the call.
CALLS: tuple[tuple[str, str, Mapping[str, Any], Mapping[str, Any]], ...] = (
    ("what do you see", "camera_capture", {}, {}),
    ("what do you see", "takePhoto", {"prompt": TEXT}, {"prompt": "what do you see"}),
    ("帮我拍张照片", "拍照", {"问题": TEXT}, {"问题": "帮我拍张照片"}),
    ("set the volume to thirty", "Speaker_SetVolume", {"volume": NUMBER}, {"volume": 30}),
    ("set the volume to thirty", "set_volume", {"value": NUMBER}, {"value": 30}),
    ("set the volume to thirty", "set_volume", {"vol_level": NUMBER, "zone": TEXT}, {"vol_level": 30}),
    ("音量调到三十", "设置音量", {"音量": NUMBER}, {"音量": 30}),
    ("set the brightness to 40", "backlight", {"percent": {"type": ["number", "null"]}}, {"percent": 40}),
    ("dark mode", "setTheme", {"mode": TEXT}, {"mode": "dark"}),
)  # fmt: skip

PICTURE = "data:image/jpeg;base64," + "/9j/4AAQSkZJRgABAQ" * 900
ASKED = "what do you see"
CUP = "A red cup."
# Results of a camera, and the spoken answer.
RESULTS: tuple[tuple[Any, str], ...] = (
    # The page of a browser: its message repeats the question.
    ({"success": True, "message": ASKED, "photo_data": PICTURE, "photo_width": 640, "vision_analysis": {"success": True, "response": CUP}}, CUP),
    ({"success": True, "photo_data": PICTURE, "vision_analysis": {"action": "RESPONSE", "result": None, "response": CUP}}, CUP),
    ({"success": True, "photo_data": PICTURE, "vision_analysis": json.dumps({"response": CUP})}, CUP),
    ({"success": True, "text": CUP}, CUP),
    ({"success": True, "message": CUP}, CUP),
    ({"result": {"answer": CUP}}, CUP),
    ({"data": {"items": [{"description": CUP}]}}, CUP),
    ({"content": [{"type": "text", "text": CUP}, {"type": "image", "data": PICTURE, "mimeType": "image/jpeg"}]}, CUP),
    ({"content": [{"type": "text", "text": json.dumps({"response": CUP})}]}, CUP),
    ([{"text": "A red cup."}, {"text": "A blue pen."}], "A red cup. A blue pen."),
    ({"objects": ["cup", "pen"]}, "cup, pen"),
    ({"labels": [{"name": "cup", "score": 0.9}, {"name": "pen", "score": 0.8}]}, "cup, pen"),
    ({"code": 0, "msg": "success", "data": {"answer": CUP}}, CUP),
    ({"status": "ok", "beschreibung": "Eine rote Tasse."}, "Eine rote Tasse."),
    ({"识别结果": "一个红色的杯子"}, "一个红色的杯子"),
    (json.dumps(json.dumps({"response": CUP})), CUP),
    ("```json\n" + json.dumps({"response": CUP}) + "\n```", CUP),
    ("Result: " + json.dumps({"response": CUP}), CUP),
    (CUP, CUP),
    (f"![photo]({PICTURE}) {CUP}", CUP),
    # Truncated, because it is too long.
    ('{"response": "A red cup.", "boxes": [' + "[1.5, 2.5], " * 2000, CUP),
    ('{"boxes": [' + "[1.5, 2.5], " * 2000, "Sorry, this device does not tell me that."),
    # Nothing for a person.
    ({"success": True, "photo_data": PICTURE}, "Sorry, this device does not tell me that."),
    ({"success": True, "message": "success"}, "Sorry, this device does not tell me that."),
    ({"url": "https://a.example/b.jpg", "id": "a_b"}, "Sorry, this device does not tell me that."),
    ("", "Sorry, this device does not tell me that."),
    # Errors.
    ({"success": True, "message": ASKED, "photo_data": PICTURE, "vision_analysis": {"success": False, "error": "no network"}}, "Sorry, that did not work: no network"),
    ({"success": False, "error": {"code": 3, "message": "no camera"}}, "Sorry, that did not work: no camera"),
    ({"isError": True, "content": [{"type": "text", "text": "no camera"}]}, "Sorry, that did not work: no camera"),
    ({"success": "false", "message": "no camera"}, "Sorry, that did not work: no camera"),
    ({"code": 500, "msg": "no camera"}, "Sorry, that did not work: no camera"),
    ({"status": "error", "reason": "no camera"}, "Sorry, that did not work: no camera"),
    ('Error: {"code": 7, "message": "no camera"}', "Sorry, that did not work: no camera"),
    ("Error: no camera", "Sorry, that did not work: no camera"),
    ({"ok": False, "error": '{"a": {"b": 1}}'}, "Sorry, that did not work."),
    ({"success": False, "error": "E_CAM_17"}, "Sorry, that did not work."),
)  # fmt: skip


class ToolTests(SynchronousTestCase):
    def reply(self, dialogue: list[Utterance], *tools: ToolSpec) -> ToolCall | str:
        model = IntentModel(IntentSettings(), Random(1))

        async def collect() -> list[Any]:
            return [delta async for delta in model.reply(dialogue, tools)]

        deltas = self.successResultOf(Deferred.fromCoroutine(collect()))
        if isinstance(deltas[0], ToolCall):
            return deltas[0]
        return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))

    def test_kinds(self) -> None:
        for name, about, properties, kind in KINDS:
            tool = ToolSpec(name, about, {"type": "object", "properties": properties})
            found = [each for each, known in TOOL_KINDS.items() if known.score(tool)]
            self.assertEqual(found, [kind] if kind else [], name)

    def test_a_name_is_enough(self) -> None:
        (kind,) = read_kinds(b"weather: {names: [get_weather]}").values()
        for name, score in (("get_weather", 3), ("getWeather", 0), ("weather", 0)):
            self.assertEqual(kind.score(ToolSpec(name, "Gets the weather.", {})), score, name)

    def test_names_that_were_replaced(self) -> None:
        """Vendors refuse Chinese names: the tool's own name is its title then."""
        for title, kind in (
            ("拍照", "photo"),
            ("self.camera.take_photo", "photo"),
            ("设置音量", "volume"),
        ):
            tool = ToolSpec("t_3fa8c21b", f"{title}: x", {"properties": {"v": NUMBER}}, title)
            found = [each for each, known in TOOL_KINDS.items() if known.score(tool)]
            self.assertEqual(found, [kind], title)

    def test_the_surest_is_called(self) -> None:
        """Of equals, the first."""
        names = ("eye", "snapshot", "camera_capture", "take_photo")
        tools = [ToolSpec(name, "Take a photo", {}) for name in names]
        for count, best in ((1, "eye"), (2, "snapshot"), (3, "snapshot"), (4, "take_photo")):
            found = OfferedTools(tools[:count]).find("photo")
            self.assertEqual(found and found.name, best)

    def test_calls(self) -> None:
        for words, name, properties, arguments in CALLS:
            tool = ToolSpec(name, "", {"type": "object", "properties": properties})
            call = self.reply([Utterance(Role.USER, words)], tool)
            assert isinstance(call, ToolCall), words
            self.assertEqual((call.name, json.loads(call.arguments)), (name, arguments), words)

    def test_results(self) -> None:
        """As they reach the model: without media, shortened, and never JSON."""
        for result, said in RESULTS:
            text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
            for name in ("self_camera_take_photo", "camera_capture"):
                call = ToolCall("1", name, "{}")
                dialogue = [
                    Utterance(Role.USER, ASKED),
                    Utterance(Role.ASSISTANT, "", (call,)),
                    Utterance(Role.TOOL, for_model(text, 8000), call_id="1"),
                ]
                answer = self.reply(dialogue, ToolSpec(name, "", {}))
                assert isinstance(answer, str)
                self.assertEqual(answer.lstrip("😔 "), said, text[:200])

    def test_of_another_models_tool(self) -> None:
        """That model failed; its tool's result is spoken."""
        call = ToolCall("1", "get_weather", "{}")
        dialogue = [Utterance(Role.USER, "weather"), Utterance(Role.ASSISTANT, "", (call,))]
        for result, said in (
            ('{"text": "Rain all day."}', "Rain all day."),
            ('{"t": 7}', "🙂 Done."),
        ):
            answer = self.reply([*dialogue, Utterance(Role.TOOL, result, call_id="1")])
            self.assertEqual(answer, said)

    def test_a_status_that_is_an_object(self) -> None:
        """Only words and numbers are spoken as facts."""
        call = ToolCall("1", "self_get_device_status", "{}")
        result = json.dumps({"battery": {"level": {"now": 9}}, "audio_speaker": {"volume": 70}})
        dialogue = [
            Utterance(Role.USER, "device status"),
            Utterance(Role.ASSISTANT, "", (call,)),
            Utterance(Role.TOOL, result, call_id="1"),
        ]
        self.assertEqual(self.reply(dialogue), "The volume is at 70 percent.")

    @given(
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
            lambda inner: st.one_of(
                st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=9), inner, max_size=4)
            ),
            max_leaves=12,
        )
    )
    def test_any_json(self, value: Any) -> None:
        for text in (json.dumps(value), json.dumps(json.dumps(value)), json.dumps(value)[:-1]):
            read = read_result(text)
            failed(read)
            for words in (words_in(read), reason_in(read)):
                self.assertNotIn('{"', words)
