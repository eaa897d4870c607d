"""Messages of clients other than the firmware (§4.1, §10, §13), answered by both services."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from xiaozhi.audio import OpusEncoder
from xiaozhi.testing.conversation import ConversationCase
from xiaozhi.testing.edge import wire_of
from xiaozhi.testing.house import SPEECH, Browser, House

# The smallest valid GIF.
GIF = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,"
GIF += b"\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"


class ClientCase(ConversationCase):
    def browser(self, **settings: Any) -> tuple[House, Browser]:
        house = self.house(**settings)
        browser = house.browse()
        # No version, transport or audio_params (§2.1).
        browser.say(type="hello", device_id="02:5a:00:00:00:01", features={"mcp": False})
        house.run(0.1)
        return house, browser

    def said(self, browser: Browser) -> list[str]:
        return [text["text"] for text in browser.of("tts") if text["state"] == "sentence_start"]


class MessageTests(ClientCase):
    def test_hello(self) -> None:
        _, browser = self.browser()
        (hello,) = browser.of("hello")
        self.assertEqual(hello["transport"], "websocket")
        self.assertRegex(hello["session_id"], r"^[A-Za-z0-9_-]+$")
        self.assertEqual(
            hello["audio_params"],
            {"format": "opus", "sample_rate": 24000, "channels": 1, "frame_duration": 60},
        )

    def test_chat(self) -> None:
        house, browser = self.browser()
        browser.say(type="chat", text="hi")
        house.run(3)
        self.assertEqual([text["text"] for text in browser.of("stt")], ["hi"])
        self.assertEqual(self.said(browser), ["All right."])

    def test_chat_in_an_envelope(self) -> None:
        house = self.house()
        browser = house.browse()
        browser.say(type="hello", data={"features": {}}, timestamp=1640995200000)
        browser.say(type="chat", data={"text": "hi"}, timestamp=1640995200001)
        house.run(3)
        for text in browser.texts:
            self.assertEqual(sorted(text), ["data", "timestamp", "type"])
        self.assertEqual(browser.of("stt")[0]["data"]["text"], "hi")

    def test_order_of_a_turn(self) -> None:
        """§4.5."""
        house, browser = self.browser()
        browser.say(type="chat", text="hi")
        house.run(3)
        course = [(text["type"], text.get("state")) for text in browser.texts[1:]]
        self.assertEqual(
            course,
            [
                ("stt", None),
                ("tts", "start"),
                ("llm", None),
                ("tts", "sentence_start"),
                ("tts", "stop"),
            ],
        )

    def test_image(self) -> None:
        house, browser = self.browser(vlllm={"answers": ("A dot.",)})
        data = {"data": b64encode(GIF).decode(), "format": "gif"}
        browser.say(type="image", text="what is it?", image_data=data)
        house.run(3)
        self.assertEqual(browser.of("stt")[0]["text"], "what is it?")
        self.assertEqual(self.said(browser), ["A dot."])

    def test_no_picture(self) -> None:
        house, browser = self.browser()
        browser.say(type="image", image_data={"data": b64encode(b"nonsense").decode()})
        browser.say(type="image", image_data={"url": "http://example.org/a.png"})
        browser.say(type="image", image_data={"data": "!!"})
        house.run(1)
        codes = sorted(error["code"] for error in browser.of("error"))
        self.assertEqual(codes, ["bad_field", "not_a_picture", "unsupported"])
        self.assertIsNone(browser.closed)

    def test_vision_command(self) -> None:
        house, browser = self.browser()
        browser.say(type="vision", cmd="gen_pic", text="a cat")
        house.run(1)
        self.assertEqual(browser.of("error")[0]["code"], "unsupported")

    def test_iot(self) -> None:
        """§4.8: things become tools."""
        call = {"name": "Lamp_TurnOn", "arguments": {}}
        house, browser = self.browser(llm={"calls": (call,)})
        lamp = {"name": "Lamp", "methods": {"TurnOn": {"description": "on", "parameters": {}}}}
        browser.say(type="iot", update=True, descriptors=[lamp])
        browser.say(type="listen", state="detect", text="light!")
        house.run(2)
        (command,) = browser.of("iot")
        self.assertEqual(
            command["commands"], [{"name": "Lamp", "method": "TurnOn", "parameters": {}}]
        )

    def test_ping(self) -> None:
        _, browser = self.browser()
        browser.say(type="ping")
        self.assertIsInstance(browser.of("pong")[0]["timestamp"], int)

    def test_goodbye(self) -> None:
        house, browser = self.browser()
        browser.say(type="goodbye")
        house.run(1)
        self.assertEqual(browser.closed, (1000, "goodbye"))
        self.assertEqual(house.ai.status().sessions, 0)

    def test_unknown_types_and_malformed_texts(self) -> None:
        """§9.19."""
        house, browser = self.browser()
        browser.say(type="voice_mute", on=True)
        browser.link.text_received("{")
        house.run(1)
        self.assertEqual([error["code"] for error in browser.of("error")], ["bad_json"])
        self.assertIsNone(browser.closed)

    def test_preamble(self) -> None:
        """§4.1: two texts that are not JSON, from a client that cannot set headers."""
        house = self.house()
        browser = house.browse()
        browser.link.text_received("Authorization: Bearer secret")
        browser.link.text_received("Device-ID: aa:bb:cc:dd:ee:ff")
        browser.say(type="hello")
        house.run(0.1)
        self.assertEqual([text["type"] for text in browser.texts], ["hello"])

    def test_early_audio(self) -> None:
        """§9.19: one error if no hello follows within 2 s, and service in any case."""
        house = self.house()
        for late, told in ((0.0, ["hello"]), (1.9, ["hello"]), (2.1, ["error", "hello"])):
            browser = house.browse()
            for _ in range(3):
                wire_of(browser.link).binary_received(b"\x18" + bytes(50))
            house.run(late)
            browser.say(type="hello")
            house.run(2.5)
            self.assertEqual([text["type"] for text in browser.texts], told, late)
            self.assertIsNone(browser.closed)

    def test_session_ids_need_not_match(self) -> None:
        """§9.18."""
        house, browser = self.browser()
        browser.say(type="listen", state="detect", text="hi", session_id="")
        browser.say(type="listen", state="detect", text="ho", session_id="nonsense", source="text")
        house.run(3)
        self.assertEqual([text["text"] for text in browser.of("stt")], ["hi", "ho"])


class MicrophoneTests(ClientCase):
    def setUp(self) -> None:
        encoder = OpusEncoder(16000, 60, 0, 16000)
        self.speech = encoder.encode(SPEECH) + encoder.flush()
        self.silence = encoder.encode(b"\x05\x00\xfb\xff" * 480 * 20)

    def stream(self, house: House, browser: Browser, packets: list[bytes]) -> None:
        for packet in packets:
            wire_of(browser.link).binary_received(packet)
            house.run(0.06)

    def test_never_says_listen_start_again(self) -> None:
        """§13: a browser streams without end and sends one ``listen start``."""
        house, browser = self.browser(asr={"texts": ("one", "two")})
        browser.say(type="listen", state="start", mode="auto")
        for _ in range(2):
            self.stream(house, browser, self.speech + self.silence * 3)
        self.assertEqual([text["text"] for text in browser.of("stt")], ["one", "two"])
        states = [text["state"] for text in browser.of("tts")]
        self.assertEqual(states, ["start", "sentence_start", "stop"] * 2)

    def test_an_empty_packet_ends_the_recording(self) -> None:
        """§13."""
        house, browser = self.browser()
        browser.say(type="listen", state="start", mode="auto")
        self.stream(house, browser, self.speech)
        wire_of(browser.link).binary_received(b"")
        house.run(0.1)
        self.assertEqual(browser.of("stt")[0]["text"], "hello")

    def test_broken_packets_are_harmless(self) -> None:
        house, browser = self.browser()
        browser.say(type="listen", state="start", mode="manual")
        self.stream(house, browser, [b"\xff", *self.speech, b"\x03"])
        browser.say(type="listen", state="stop")
        house.run(0.1)
        self.assertEqual(browser.of("stt")[0]["text"], "hello")

    def test_sound_that_stops_coming(self) -> None:
        """A client that stops sending during speech still gets an answer."""
        house, browser = self.browser()
        browser.say(type="listen", state="start", mode="auto")
        self.stream(house, browser, self.speech[:10])
        house.run(2)
        self.assertEqual(browser.of("stt")[0]["text"], "hello")

    def test_wake_word_and_listen_start_in_one_go(self) -> None:
        """§10: a browser sends both right after its hello."""
        house, browser = self.browser()
        browser.say(type="listen", state="detect", text="嘿，你好呀")
        browser.say(type="listen", state="start", mode="auto")
        self.stream(house, browser, self.speech + self.silence)
        self.assertEqual([text["text"] for text in browser.of("stt")], ["hello"])

    def test_typed_text_and_listen_start_in_one_go(self) -> None:
        """The start does not interrupt the answer to the text."""
        house, browser = self.browser()
        browser.say(type="listen", state="detect", text="what time is it")
        browser.say(type="listen", state="start", mode="auto")
        house.run(3)
        self.assertEqual(self.said(browser), ["All right."])
        self.assertEqual(json.dumps(browser.texts).count('"stop"'), 1)
