"""A transport that is not WebSocket: the session side, gateway and AI service work unchanged."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

import xiaozhi.im.session
from xiaozhi.audio import OpusEncoder
from xiaozhi.base.closing import ChannelTerms, CloseReason, Ending
from xiaozhi.base.errors import ProtocolError
from xiaozhi.base.ownership import DeviceState, Registered
from xiaozhi.base.values import Presence
from xiaozhi.im.ingress.attendance import Attendance
from xiaozhi.im.session.arrival import Arrival
from xiaozhi.im.session.nobody import NO_EVENTS
from xiaozhi.interfaces import IDeviceChannel, IDeviceEvents, IPresentDevice
from xiaozhi.testing.conversation import ConversationCase
from xiaozhi.testing.house import SPEECH, House
from xiaozhi.wire.mail import Mail
from xiaozhi.wire.messages import Audio, Device, Hello

SETTINGS = {"server": "192.0.2.1", "port": 8884, "key": "00" * 16, "nonce": "01" * 16}
CODES = {reason: number for number, reason in enumerate(CloseReason, 1)}


@implementer(IDeviceChannel)
class DatagramChannel:
    """A device with text through a broker and sound in datagrams.

    :ivar packets: payload and timestamp of each datagram to the device.
    """

    name = "udp"

    def __init__(self) -> None:
        self.link: IDeviceEvents = NO_EVENTS
        self.texts: list[dict[str, Any]] = []
        self.packets: list[tuple[bytes, int]] = []
        self.closed: tuple[CloseReason, str] | None = None
        self.probes = 0
        self.paused = False

    # --- IDeviceChannel

    def greet(self, hello: Hello) -> ChannelTerms:
        return ChannelTerms(version=hello.version, answer={"udp": SETTINGS})

    def send_text(self, text: str) -> None:
        self.texts.append(json.loads(text))

    def send_audio(self, audio: Audio) -> int:
        if len(audio.payload) > 1400:
            raise ProtocolError("frame_too_big", "no datagram is that long")
        self.packets.append((audio.payload, audio.timestamp))
        return 16 + len(audio.payload)

    def close(self, reason: CloseReason, detail: str) -> None:
        self.closed = self.closed or (reason, detail)

    def code_of(self, reason: CloseReason) -> int:
        return CODES[reason]

    def probe(self) -> None:
        self.probes += 1

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    # --- the device

    def say(self, **message: Any) -> None:
        """Publish a JSON text."""
        self.link.text_received(json.dumps(message))

    def hello(self) -> None:
        """Open the session, as firmware does over MQTT."""
        self.say(type="hello", version=3, transport="udp", features={"mcp": False})

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the texts of one type."""
        return [text for text in self.texts if text["type"] == kind]


@implementer(IPresentDevice)
class IdleDevice:
    """A device that is connected to the broker without a session."""

    def __init__(self) -> None:
        self.letters: list[Mail] = []
        self.dismissed: tuple[CloseReason, str] | None = None
        self.takes = True

    def deliver(self, mail: Mail) -> bool:
        if self.takes:
            self.letters.append(mail)
        return self.takes

    def dismiss(self, reason: CloseReason, detail: str) -> None:
        self.dismissed = (reason, detail)


DEVICE = Device("02:00:00:00:00:07", "client-7", "somebody")


class DatagramCase(ConversationCase):
    def arrive(self, house: House, device: Device = DEVICE) -> DatagramChannel:
        """Connect a device and begin its session."""
        channel = DatagramChannel()
        channel.link = house.gateway.connect(channel, Arrival(device))
        self.addCleanup(self.leave, house, channel)
        return channel

    def leave(self, house: House, channel: DatagramChannel) -> None:
        """Lose the connection."""
        link, channel.link = channel.link, NO_EVENTS
        if link is not NO_EVENTS:
            link.lost(Ending(9, "gone", "device_lost"))
            house.gateway.connection_gone()

    def attend(self, house: House, device: Device = DEVICE) -> tuple[IdleDevice, Attendance]:
        idle = IdleDevice()
        return idle, house.gateway.attend(device, idle)


class TalkTests(DatagramCase):
    def test_interfaces(self) -> None:
        verifyObject(IDeviceChannel, DatagramChannel())
        verifyObject(IPresentDevice, IdleDevice())

    def test_the_hello_has_the_transport_s_own_part(self) -> None:
        channel = self.arrive(self.house())
        channel.hello()
        (hello,) = channel.of("hello")
        self.assertEqual((hello["transport"], hello["udp"]), ("udp", SETTINGS))
        self.assertTrue(hello["session_id"])

    def test_a_whole_talk(self) -> None:
        house = self.house(asr={"texts": ("hello",)}, llm={"answers": ("Hi there.",)})
        channel = self.arrive(house)
        channel.hello()
        house.run(0.1)
        channel.say(type="listen", state="start", mode="manual")
        for number, packet in enumerate(OpusEncoder(16000).encode(SPEECH)):
            channel.link.audio_received(Audio(packet, 60 * number), 16 + len(packet))
            house.run(0.06)
        channel.say(type="listen", state="stop")
        house.run(10)
        self.assertEqual([stt["text"] for stt in channel.of("stt")], ["hello"])
        states = [tts["state"] for tts in channel.of("tts")]
        self.assertEqual((states[0], states[-1]), ("start", "stop"))
        self.assertGreater(len(channel.packets), 5)
        self.assertTrue(all(len(payload) <= 1400 for payload, _ in channel.packets))
        channel.say(type="goodbye")
        self.assertEqual(channel.closed, (CloseReason.FINISHED, "goodbye"))
        house.run(1)

    def test_reasons_for_closing(self) -> None:
        house = self.house()
        first = self.arrive(house)
        first.hello()
        second = self.arrive(house)
        self.assertEqual(first.closed, (CloseReason.REPLACED, "replaced"))
        house.run(40)
        # It has never said hello.
        self.assertEqual(second.closed, (CloseReason.LIMIT, "hello_timeout"))

    def test_malformed_packets(self) -> None:
        house = self.house()
        channel = self.arrive(house)
        channel.hello()
        for _ in range(100):
            channel.link.malformed(ProtocolError("bad_frame", "no packet"), 20)
        self.assertEqual(channel.closed, (CloseReason.LIMIT, "malformed_limit"))

    def test_a_silent_device_is_probed(self) -> None:
        house = self.house()
        channel = self.arrive(house)
        channel.hello()
        house.run(40)
        self.assertGreater(channel.probes, 0)

    def test_an_answer_in_the_middle_of_which_the_device_is_lost(self) -> None:
        house = self.house(llm={"answers": ("Hi there, how are you today?",)})
        channel = self.arrive(house)
        channel.hello()
        channel.say(type="listen", state="detect", text="tell me")
        house.run(1)
        self.assertTrue(channel.packets)
        count = len(channel.packets)
        self.leave(house, channel)
        house.run(5)
        self.assertEqual(len(channel.packets), count)


class PresentTests(DatagramCase):
    """A device that is reachable without a session."""

    def post(self, house: House, words: str) -> bool:
        receipt = self.successResultOf(
            house.inbox.post(DEVICE.device_id, Mail(say=words), ttl=60.0)
        )
        return bool(receipt.delivered)

    def test_messages_reach_it(self) -> None:
        house = self.house()
        idle, attendance = self.attend(house)
        self.assertEqual(house.gateway.present, 1)
        self.assertTrue(self.post(house, "Dinner."))
        self.assertEqual([mail.say for mail in idle.letters], ["Dinner."])
        attendance.leave()
        attendance.leave()
        self.assertFalse(self.post(house, "Later."))
        self.assertEqual(house.gateway.present, 0)

    def test_unsendable_messages_are_kept(self) -> None:
        house = self.house()
        idle, _ = self.attend(house)
        idle.takes = False
        self.assertFalse(self.post(house, "Dinner."))
        channel = self.arrive(house)
        channel.hello()
        house.run(3)
        self.assertEqual(
            [tts["text"] for tts in channel.of("tts") if tts["state"] == "sentence_start"],
            ["Dinner."],
        )

    def test_a_session_takes_its_place_for_a_while(self) -> None:
        house = self.house()
        idle, _ = self.attend(house)
        channel = self.arrive(house)
        channel.hello()
        self.assertIsNone(idle.dismissed)
        self.assertTrue(self.post(house, "Dinner."))
        house.run(3)
        self.assertEqual(idle.letters, [])
        self.assertTrue(channel.of("tts"))
        channel.say(type="goodbye")
        self.assertTrue(self.post(house, "Tea."))
        self.assertEqual([mail.say for mail in idle.letters], ["Tea."])

    def test_connected_anew(self) -> None:
        house = self.house()
        former, _ = self.attend(house)
        newer, _ = self.attend(house)
        self.assertEqual(former.dismissed, (CloseReason.REPLACED, "replaced"))
        self.assertTrue(self.post(house, "Dinner."))
        self.assertEqual(([*former.letters], len(newer.letters)), ([], 1))

    def test_connected_at_another_process(self) -> None:
        for in_session in (False, True):
            house = self.house()
            idle, _ = self.attend(house)
            channel = self.arrive(house)
            if in_session:
                channel.hello()
            presence = house.presence
            elsewhere = Presence(DEVICE.device_id, "other", "im-2", house.clock.seconds() + 1)
            presence.claim(elsewhere, lambda: None)
            self.assertEqual(idle.dismissed, (CloseReason.REPLACED, "replaced"))
            self.assertEqual(channel.closed is not None, in_session)
            self.assertEqual(house.gateway.present, 0)

    def test_revoked(self) -> None:
        house = self.house()
        idle, _ = self.attend(house)
        now = datetime(2026, 1, 1, tzinfo=UTC)
        revoked = Registered(
            DEVICE.device_id, "", "", DeviceState.REVOKED, 2, 1, True, "", now, now
        )
        house.gateway.owner_changed(revoked)
        self.assertEqual(idle.dismissed, (CloseReason.LIMIT, "revoked"))
        self.assertFalse(self.post(house, "Dinner."))

    def test_a_guest_is_sent_nothing(self) -> None:
        house = self.house()
        guest = Device(DEVICE.device_id, "other", "", guest=True)
        idle, attendance = self.attend(house, guest)
        self.assertFalse(self.post(house, "Dinner."))
        self.assertEqual(idle.letters, [])
        attendance.leave()

    def test_sent_away_when_the_process_stops(self) -> None:
        house = self.house()
        idle, _ = self.attend(house)
        house.gateway.drain(1)
        self.assertEqual(idle.dismissed, (CloseReason.STOPPING, "going_away"))


class NeutralityTests(SynchronousTestCase):
    def test_the_session_side_names_no_transport(self) -> None:
        """Neither WebSocket, its close codes, nor framing."""
        words = re.compile(
            r"websocket|close ?codes?|framing_of|wire\.frames|pack_v|\b100[13-9]\b|\b101\d\b",
            re.I,
        )
        directory = Path(xiaozhi.im.session.__file__).parent
        modules = sorted(directory.glob("*.py"))
        self.assertGreater(len(modules), 8)
        for module in modules:
            for number, line in enumerate(module.read_text("utf-8").splitlines(), 1):
                self.assertIsNone(words.search(line), f"{module.name}:{number}: {line}")
