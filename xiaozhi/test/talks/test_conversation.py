"""Whole conversations through both services, on virtual time."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred

from xiaozhi.agents.settings import SessionSettings, TurnSettings
from xiaozhi.audio import OpusDecoder, OpusEncoder, rms
from xiaozhi.base.values import LogDirection, Receipt, Role
from xiaozhi.device import events as e
from xiaozhi.device.firmware.mcp import SimulatedTool
from xiaozhi.device.identity import numbered
from xiaozhi.im.session.delivery import Delivery
from xiaozhi.testing.conversation import LONG, ConversationCase
from xiaozhi.testing.edge import wire_of
from xiaozhi.testing.house import SPEECH, House, Visitor
from xiaozhi.tools.settings import McpSettings
from xiaozhi.wire.jsontext import JsonDialect
from xiaozhi.wire.mail import Mail
from xiaozhi.wire.messages import Features, ListenMode, Playback, PlaybackState


class TalkTests(ConversationCase):
    def test_auto(self) -> None:
        house = self.house(asr={"texts": ("hello", "and now")}, llm={"answers": ("Hi there.",)})
        visitor = house.connect()
        for text in ("hello", "and now"):
            answer = house.until(visitor.device.say(SPEECH))
            self.assertEqual((answer.heard, answer.sentences), (text, ("Hi there.",)))
            self.assertEqual((answer.tts_starts, answer.tts_stops), (1, 1))
            self.assertEqual((answer.gaps, answer.dropped), ((), 0))
            # 60 ms for a character, and the pause after a sentence.
            self.assertApproximates(answer.audio_ms, 540 + 120, 60)

    def test_a_talk_continues_after_a_reconnect_and_without_the_ai_process(self) -> None:
        house = self.house(llm={"recall": "what did I say"})
        visitor = house.connect()
        house.until(visitor.device.text("my name is Ada"))
        visitor.device.close()
        visitor = house.connect()
        answer = house.until(visitor.device.text("what did I say"))
        self.assertEqual(answer.text, "my name is Ada")
        house.until(visitor.device.text("I like bread"))
        house.kill_ai()
        house.run(1)
        house.start_ai()
        house.run(12)
        answer = house.until(visitor.device.text("what did I say"))
        self.assertEqual(answer.text, "I like bread")
        stranger = house.connect(2)
        answer = house.until(stranger.device.text("what did I say"))
        self.assertEqual(answer.text, "Nothing.")

    def test_manual(self) -> None:
        house = self.house()
        visitor = house.connect(mode=ListenMode.MANUAL)
        for _ in range(2):
            answer = house.until(visitor.device.say(SPEECH))
            self.assertEqual(answer.heard, "hello")
            self.assertEqual(visitor.device.machine.state, e.TalkState.IDLE)
            # No end of speech to detect: only the gap that the device needs (§3.3).
            assert answer.first_audio_latency is not None
            self.assertLess(answer.first_audio_latency, 0.15)

    def test_manual_silence_is_not_the_end(self) -> None:
        """§4.4: in manual only ``listen stop`` ends an utterance."""
        house = self.house()
        visitor = house.connect(mode=ListenMode.MANUAL)
        answer = visitor.device.say(SPEECH + bytes(32000 * 3) + SPEECH)
        house.run(4.5)
        self.assertEqual(visitor.seen(e.Heard), [])
        self.assertEqual(house.until(answer).heard, "hello")

    def test_realtime_needs_no_second_start(self) -> None:
        """§9.8."""
        house = self.house()
        visitor = house.connect(mode=ListenMode.REALTIME)
        for _ in range(3):
            self.assertEqual(house.until(visitor.device.say(SPEECH)).heard, "hello")
        self.assertEqual(len(visitor.seen(e.ListeningStarted)), 1)

    def test_typed(self) -> None:
        """§9.26: a detect that is no wake word is a question."""
        house = self.house(llm={"replies": {"2+2?": "Four."}})
        answer = house.until(house.connect().device.text("2+2?"))
        self.assertEqual((answer.heard, answer.text), ("2+2?", "Four."))

    def test_every_framing_and_dialect(self) -> None:
        house = self.house()
        for number, framing in enumerate((1, 2, 3, 1, 2, 3)):
            dialect = JsonDialect.FLAT if number < 3 else JsonDialect.ENVELOPED
            visitor = house.connect(number, framing=framing, dialect=dialect)
            answer = house.until(visitor.device.say(SPEECH))
            self.assertEqual((answer.heard, answer.dropped, answer.errors), ("hello", 0, ()))

    def test_two_devices_do_not_meet(self) -> None:
        house = self.house(llm={"replies": {"one": "First.", "two": "Second."}})
        one, two = house.connect(1), house.connect(2)
        first, second = one.device.text("one"), two.device.text("two")
        self.assertEqual(house.until(first).text, "First.")
        self.assertEqual(house.until(second).text, "Second.")

    def test_nothing_heard_is_no_turn(self) -> None:
        house = self.house(asr={"texts": ("",)})
        visitor = house.connect()
        visitor.device.listen()
        visitor.device.microphone.say(SPEECH)
        house.run(4)
        self.assertEqual(visitor.seen(e.SpeechStarted), [])
        self.assertEqual(visitor.device.machine.state, e.TalkState.LISTENING)

    def test_long_answer_is_paced_and_complete(self) -> None:
        """§9.4, §9.5: never more than the lead ahead, and nothing is lost."""
        house = self.house(llm={"answers": ((LONG + " ") * 5,)}, tts={"milliseconds": 100})
        visitor = house.connect()
        answer = house.until(visitor.device.text("tell me"), 120)
        self.assertGreater(answer.audio_ms, 30_000)
        self.assertEqual((answer.gaps, answer.dropped), ((), 0))
        times = [at for at, event in visitor.events if isinstance(event, e.PacketPlayed)]
        for number, at in enumerate(times):
            self.assertGreaterEqual(at - times[0] + 0.021, (number - 2) * 0.06)

    def test_stop_comes_after_the_end_of_playback(self) -> None:
        """§9.6."""
        house = self.house()
        visitor = house.connect()
        answer = house.until(visitor.device.text("hi"))
        times = {type(event): at for at, event in visitor.events}
        first = next(at for at, event in visitor.events if isinstance(event, e.PacketPlayed))
        self.assertGreaterEqual(times[e.SpeechStopped] + 0.011, first + answer.audio_ms / 1000)

    def test_an_answer_may_play_longer_than_thinking_may_take(self) -> None:
        house = self.house(
            session=SessionSettings(turn=TurnSettings(whole=10)),
            llm={"answers": ((LONG + " ") * 10,)},
            tts={"pace": 4.0},
        )
        answer = house.until(house.connect().device.text("go"))
        self.assertGreater(answer.audio_ms, 40_000)
        self.assertEqual(answer.sentences[-1], LONG)

    def test_total_thinking_time_is_limited(self) -> None:
        house = self.house(
            session=SessionSettings(turn=TurnSettings(whole=20)),
            llm={"answers": (LONG.replace(",", "").replace(".", "") * 2,), "token_delay": 1.0},
        )
        answer = house.until(house.connect().device.text("go"))
        self.assertIn("Sorry", answer.text)
        self.flushLoggedErrors()

    def test_the_log_has_it_all(self) -> None:
        house = self.house(llm={"answers": ("Fine.",)})
        visitor = house.connect()
        house.until(visitor.device.say(SPEECH))
        assert visitor.cable.link is not None
        session_id = visitor.cable.link.session_id
        house.run(1)
        rows = self.successResultOf(house.store.messages(session_id, 100))
        kinds = [(row.message_type, row.direction) for row in rows]
        for expected in (
            ("hello", LogDirection.INBOUND),
            ("hello", LogDirection.OUTBOUND),
            ("listen", LogDirection.INBOUND),
            ("audio", LogDirection.INBOUND),
            ("stt", LogDirection.OUTBOUND),
            ("tts", LogDirection.OUTBOUND),
            ("audio", LogDirection.OUTBOUND),
        ):
            self.assertIn(expected, kinds)
        # One row for an utterance, not one for a packet.
        self.assertEqual(kinds.count(("audio", LogDirection.OUTBOUND)), 1)


class ToolTests(ConversationCase):
    def test_on_the_device(self) -> None:
        call = {"name": "self_audio_speaker_set_volume", "arguments": {"volume": 30}}
        house = self.house(llm={"calls": (call,)})
        visitor = house.connect()
        answer = house.until(visitor.device.text("quieter"))
        self.assertEqual([tool.name for tool in answer.tools], ["self.audio_speaker.set_volume"])
        self.assertEqual(visitor.device.panel.volume, 30)
        self.assertEqual(answer.text, "true")

    def test_several_in_one_reply(self) -> None:
        """A device runs one call at a time (§5.2): it gets the next one after it has answered.
        Server tools run in parallel.
        """
        ran: list[str] = []
        answer: Deferred[str] = Deferred()

        async def slow(_: object) -> str:
            ran.append("slow")
            return await answer

        async def quick(_: object) -> str:
            ran.append("quick")
            return "quickly"

        names = ("self_slow", "self_quick", "get_date")
        house = self.house(llm={"calls": tuple({"name": name} for name in names)})
        visitor = house.connect(
            tools=(
                SimulatedTool("self.slow", "Slow.", slow),
                SimulatedTool("self.quick", "Quick.", quick),
            )
        )
        asked = visitor.device.text("do all")
        house.run(2)
        self.assertEqual(ran, ["slow"])
        answer.callback("slowly")
        house.until(asked)
        self.assertEqual(ran, ["slow", "quick"])
        house.run(1)
        said = self.successResultOf(
            Deferred.fromCoroutine(house.history.recall(visitor.device.identity.device_id, 99))
        )
        results = [entry.said.text for entry in said if entry.said.role is Role.TOOL]
        self.assertEqual(results[:2], ["slowly", "quickly"])
        self.assertIn("2026-09-21", results[2])

    def test_answered_late_and_out_of_order(self) -> None:
        """The first call exceeds its limit: the next one is sent meanwhile, and the late answer is
        dropped, not matched with the next call.
        """
        names = ("self_first", "self_second")
        mcp = McpSettings(call=3)
        house = self.house(
            session=SessionSettings(mcp=mcp), llm={"calls": tuple({"name": n} for n in names)}
        )
        browser = house.browse()
        hello = {"transport": "websocket", "version": 1, "features": {"mcp": True}}
        params = {"format": "opus", "sample_rate": 16000, "channels": 1, "frame_duration": 60}
        browser.say(type="hello", **hello, audio_params=params)

        def asked() -> dict[str, Any]:
            house.run(0.2)
            return dict(browser.of("mcp")[-1]["payload"])

        def answer(number: int, result: dict[str, Any]) -> None:
            payload = {"jsonrpc": "2.0", "id": number, "result": result}
            browser.say(type="mcp", payload=payload)

        def said(number: int, words: str) -> None:
            answer(number, {"content": [{"type": "text", "text": words}], "isError": False})

        answer(asked()["id"], {"protocolVersion": "2024-11-05"})
        tools = [{"name": n.replace("_", "."), "inputSchema": {"type": "object"}} for n in names]
        answer(asked()["id"], {"tools": tools})
        browser.say(type="listen", state="detect", text="do both")
        first = asked()
        self.assertEqual(first["params"]["name"], "self.first")
        house.run(3)
        second = asked()
        self.assertEqual(second["params"]["name"], "self.second")
        said(first["id"], "one")
        said(second["id"], "two")
        house.run(2)
        history = house.history.recall(numbered(1).device_id, 99)
        known = self.successResultOf(Deferred.fromCoroutine(history))
        results = [entry.said.text for entry in known if entry.said.role is Role.TOOL]
        self.assertEqual(results, ["Error: the device did not answer tools/call in 3 s", "two"])

    def test_on_the_server(self) -> None:
        house = self.house(llm={"calls": ({"name": "get_date", "arguments": {}},)})
        answer = house.until(house.connect().device.text("what day is it"))
        self.assertIn("2026-09-21", answer.text)

    def test_after_the_last_round_of_tools_it_answers(self) -> None:
        house = self.house(
            session=SessionSettings(turn=TurnSettings(tool_rounds=1)),
            llm={"calls": ({"name": "get_time", "arguments": {}},)},
        )
        answer = house.until(house.connect().device.text("time"))
        self.assertIn('"time": "14:13"', answer.text)

    def test_device_without_mcp(self) -> None:
        house = self.house()
        visitor = house.connect(features=Features(mcp=False))
        self.assertEqual(house.until(visitor.device.text("hi")).text, "All right.")

    def test_goodbye_is_heard_and_then_closed(self) -> None:
        """§4.5, 5."""
        house = self.house(llm={"calls": ({"name": "end_conversation", "arguments": {}},)})
        visitor = house.connect()
        house.until(visitor.device.text("goodbye"))
        house.run(1)
        self.assertEqual(visitor.cable.closed, (1000, "farewell"))
        self.assert_paired(visitor)

    def test_a_goodbye_talked_over_is_none(self) -> None:
        house = self.house(
            llm={
                "calls": ({"name": "end_conversation", "when": "goodbye"},),
                "replies": {"no, wait": "Yes?"},
            }
        )
        browser = house.browse()
        browser.say(type="hello")
        browser.say(type="listen", state="detect", text="goodbye")
        house.run(0.5)
        browser.say(type="listen", state="detect", text="no, wait")
        house.run(3)
        self.assertEqual([text["text"] for text in browser.of("stt")], ["goodbye", "no, wait"])
        self.assertEqual(browser.of("tts")[-1]["state"], "stop")
        self.assertIsNone(browser.closed)

    def test_a_goodbye_over_an_answer_is_one(self) -> None:
        """The report that the previous answer was cut arrives late."""
        report = Delivery.report

        def late(delivery: Delivery, playback: Playback) -> None:
            flushed = playback.state is PlaybackState.FLUSHED
            house.clock.callLater(0.4 if flushed else 0, report, delivery, playback)

        self.patch(Delivery, "report", late)
        house = self.house(
            asr={"texts": ("hello", "goodbye")},
            llm={
                "calls": ({"name": "end_conversation", "when": "goodbye"},),
                "replies": {"hello": LONG},
            },
        )
        visitor = house.connect(mode=ListenMode.REALTIME)
        visitor.device.say(SPEECH).addErrback(lambda _: None)
        house.run(4)
        house.until(visitor.device.say(SPEECH))
        house.run(1)
        self.assertEqual(visitor.cable.closed, (1000, "farewell"))


class NewestWinsTests(ConversationCase):
    def test_the_older_connection_is_closed(self) -> None:
        """§9.22."""
        house = self.house()
        older = house.connect(7)
        newer = house.connect(7)
        house.run(1)
        assert older.cable.closed is not None
        self.assertEqual(older.cable.closed[1], "replaced")
        self.assertEqual(house.until(newer.device.say(SPEECH)).heard, "hello")


class SoundTests(ConversationCase):
    def test_nothing_of_a_sentence_is_cut(self) -> None:
        """The codec's last milliseconds are played, too."""
        house = self.house(llm={"answers": ("Yes.",)}, tts={"milliseconds": 45})
        visitor = house.connect()
        answer = house.until(visitor.device.text("?"))
        decoder = OpusDecoder(24000)
        sound = b"".join(map(decoder.decode, answer.packets))
        # 4 characters of 45 ms; the codec delays sound by 2.5 ms.
        end = int(24000 * (0.18 + 0.0025)) * 2
        self.assertGreater(rms(sound[end - 240 : end]), 1500)
        self.assertLess(rms(sound[end + 960 :]), 300)


class PostedTests(ConversationCase):
    """Messages posted to a device."""

    def posted(self, house: House, visitor: Visitor, mail: Mail) -> Receipt:
        receipt: Receipt = self.successResultOf(
            house.inbox.post(visitor.device.identity.device_id, mail, 60)
        )
        return receipt

    def said(self, visitor: Visitor) -> list[str]:
        return [event.text for event in visitor.seen(e.Sentence)]

    def test_words_are_spoken(self) -> None:
        house = self.house()
        for number, mode in enumerate(ListenMode):
            visitor = house.connect(number, mode=mode)
            self.assertTrue(self.posted(house, visitor, Mail(say="Tea is ready.")).delivered)
            house.run(4)
            self.assertEqual(self.said(visitor), ["Tea is ready."])
            self.assertGreater(len(visitor.seen(e.PacketPlayed)), 10)
            self.assertEqual(len(visitor.seen(e.SpeechStopped)), 1)
            self.assertEqual(visitor.seen(e.Heard), [])

    def test_after_the_answer(self) -> None:
        house = self.house(llm={"answers": ("Half past four.",)})
        visitor = house.connect()
        answer = visitor.device.text("what time is it")
        house.run(0.5)
        for words in ("Tea is ready.", "And cake."):
            self.posted(house, visitor, Mail(say=words))
        self.assertEqual(house.until(answer).text, "Half past four.")
        house.run(6)
        self.assertEqual(self.said(visitor), ["Half past four.", "Tea is ready.", "And cake."])
        self.assert_paired(visitor)

    def test_after_the_person(self) -> None:
        """A speaking person is heard to the end and answered first."""
        for mode in ListenMode:
            house = self.house(llm={"answers": ("Hi.",)})
            visitor = house.connect(mode=mode)
            answer = visitor.device.say(SPEECH)
            house.run(0.6)
            self.posted(house, visitor, Mail(say="Tea is ready."))
            self.assertEqual(house.until(answer).heard, "hello")
            house.run(5)
            self.assertEqual(self.said(visitor), ["Hi.", "Tea is ready."])

    def test_after_a_noise(self) -> None:
        house = self.house()
        visitor = house.connect()
        visitor.device.listen()
        visitor.device.microphone.say(SPEECH[: 32 * 150])
        house.run(0.2)
        self.posted(house, visitor, Mail(say="Tea is ready."))
        house.run(4)
        self.assertEqual(self.said(visitor), ["Tea is ready."])

    def test_after_sound_without_words(self) -> None:
        """It waits for the recognition, but not for more sound."""
        house = self.house(asr={"texts": ("", ""), "delay": 2.5})
        browser = house.browse()
        browser.say(type="hello")
        browser.say(type="listen", state="start", mode="realtime")
        for packet in OpusEncoder(16000).encode((SPEECH + bytes(32 * 900)) * 2):
            wire_of(browser.link).binary_received(packet)
            house.run(0.06)
        house.run(1)
        house.inbox.post(numbered(1).device_id, Mail(say="Tea is ready."), 60)
        house.run(0.5)
        self.assertEqual(browser.of("tts"), [])
        house.run(4)
        told = [text["text"] for text in browser.of("tts") if "text" in text]
        self.assertEqual(told, ["Tea is ready."])

    def test_no_more_than_may_wait(self) -> None:
        house = self.house(session=SessionSettings(announcements=2), llm={"answers": (LONG,)})
        visitor = house.connect()
        answer = visitor.device.text("go")
        house.run(0.5)
        for number in range(4):
            self.posted(house, visitor, Mail(say=f"Number {number}."))
        house.until(answer)
        house.run(8)
        self.assertEqual(self.said(visitor)[-2:], ["Number 0.", "Number 1."])

    def test_in_the_language_of_its_words(self) -> None:
        house = self.house(tts={"fail": "down"}, shipped=False)
        visitor = house.connect()
        self.posted(house, visitor, Mail(say="茶好了。"))
        house.run(4)
        (alert,) = visitor.seen(e.Alerted)
        self.assertEqual(alert.status, "出错了")
        self.flushLoggedErrors()

    def test_a_message_in_the_device_s_dialect(self) -> None:
        house = self.house()
        mail = Mail(
            message='{"type":"alert","data":{"status":"Mail","message":"One","emotion":"happy"}}'
        )
        for number, dialect in enumerate(JsonDialect):
            visitor = house.connect(number, dialect=dialect)
            self.posted(house, visitor, mail)
            house.run(0.1)
            (alert,) = visitor.seen(e.Alerted)
            self.assertEqual((alert.status, alert.message), ("Mail", "One"))

    def test_any_other_message_as_it_is(self) -> None:
        house = self.house()
        browser = house.browse()
        browser.say(type="hello", version=1)
        device_id = browser.link.device.device_id
        for text in ('{"type":"weather","sun":true}', '{"no":"type"}'):
            house.inbox.post(device_id, Mail(message=text), 60)
            self.assertEqual(browser.texts[-1], json.loads(text))
        house.run(1)
        (row,) = self.successResultOf(house.store.sessions_of(device_id, 1))
        messages = self.successResultOf(house.store.messages(row.session_id, 100))
        self.assertEqual([each.message_type for each in messages].count("posted"), 2)

    def test_kept_until_the_hello(self) -> None:
        house = self.house()
        browser = house.browse()
        device_id = browser.link.device.device_id
        texts = [f'{{"number":{number}}}' for number in range(3)]
        for text in texts:
            house.inbox.post(device_id, Mail(message=text), 60)
        self.assertEqual(browser.texts, [])
        browser.say(type="hello", version=1)
        self.assertEqual(browser.texts[0]["type"], "hello")
        self.assertEqual(browser.texts[1:], [json.loads(text) for text in texts])
