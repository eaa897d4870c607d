"""The language of the edge's texts before the AI service has reported that of the conversation."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.device.identity import numbered
from xiaozhi.im.ingress.admission import credentials
from xiaozhi.im.language.languages import Languages, preferred
from xiaozhi.im.session.arrival import Arrival
from xiaozhi.im.session.outage import outage_alert
from xiaozhi.im.settings import LinkSettings
from xiaozhi.im.websocket.channel import WebSocketChannel
from xiaozhi.testing.conversation import ConversationCase
from xiaozhi.testing.house import Browser
from xiaozhi.wire.messages import Device

# An Accept-Language header, and the chosen language.
HEADERS: tuple[tuple[str, str], ...] = (
    ("zh-CN", "zh-CN"),
    ("zh_CN", "zh-CN"),
    ("de", "de"),
    ("ZH-tw", "ZH-tw"),
    ("zh-Hant-HK,en;q=0.5", "zh-Hant-HK"),
    ("fr-CH, fr;q=0.9, en;q=0.8, de;q=0.7, *;q=0.5", "fr-CH"),
    ("en;q=0.3,ja;q=0.9", "ja"),
    ("en;q=0.3 , ja ; q = 0.9", "ja"),
    ("fi,de;q=0.8,en;q=0.6", "de"),
    ("es-419;q=1.000", "es-419"),
    # No language with texts, or no language.
    ("fi", ""),
    ("fi,sv;q=0.5", ""),
    ("*", ""),
    ("", ""),
    (" , ,;", ""),
    ("ja;q=0", ""),
    ("de;q=0.0", ""),
    # Invalid headers.
    ("de;q=2", ""),
    ("de;q=nan", ""),
    ("de;q=-1, fr;q=0.1", "fr"),
    ("1234", ""),
    ("english", ""),
    ("de\x00", ""),
    ("<script>", ""),
    ("de-" + "a" * 2000, ""),
    ("de" + "-aaaaaaaa" * 10, ""),
    ("fi," * 10_000 + "de", ""),
    ("x;" * 10_000, ""),
)


class PreferenceTests(SynchronousTestCase):
    def test_headers(self) -> None:
        for header, language in HEADERS:
            with self.subTest(header=header[:60]):
                self.assertEqual(preferred(header), language)
                offered = credentials({"device-id": "d", "accept-language": header}, {})
                self.assertEqual(offered.language, language)
        self.assertEqual(credentials({"device-id": "d"}, {}).language, "")

    def test_precedence(self) -> None:
        languages = Languages("en")
        self.assertEqual(languages.of("d"), "en")
        self.assertEqual(languages.of("d", "zh-CN"), "zh-CN")
        languages.learn("d", "ja")
        self.assertEqual(languages.of("d", "zh-CN"), "ja")


class AlertTests(ConversationCase):
    def test_an_outage_before_the_first_turn(self) -> None:
        for language in ("zh-CN", "de", ""):
            house = self.house()
            browser: Any = Browser()
            identity = numbered(1)
            known = Device(identity.device_id, identity.client_id, "somebody")
            channel = WebSocketChannel(browser)
            browser.link = channel.link = house.gateway.connect(
                channel, Arrival(known, "", language)
            )
            house.browsers.append(browser)
            browser.say(type="hello", version=1, transport="websocket")
            house.run(1)
            house.kill_ai()
            house.run(0.1)
            browser.say(type="listen", state="detect", text="what time is it")
            house.run(20)
            (alert,) = browser.of("alert")
            expected = outage_alert(LinkSettings(), language or "en")
            self.assertEqual(alert["message"], expected.message)
            self.assertEqual(alert["status"], expected.status)
            self.flushLoggedErrors()
