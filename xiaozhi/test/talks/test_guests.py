"""Guests with unowned device ids at both services, and connections closed by a change of owner."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.ai.session.leases import AgentLeases
from xiaozhi.ai.session.sessions import Sessions
from xiaozhi.base.errors import AuthError
from xiaozhi.base.ownership import DeviceState, Registered, fingerprint
from xiaozhi.base.values import Receipt
from xiaozhi.device import events as e
from xiaozhi.device.identity import numbered
from xiaozhi.im.ingress.admission import Credentials
from xiaozhi.im.ingress.gateway import EdgeServices, Gateway
from xiaozhi.im.session.arrival import Arrival
from xiaozhi.im.settings import EdgeSettings
from xiaozhi.im.websocket.channel import WebSocketChannel
from xiaozhi.testing.conversation import ConversationCase
from xiaozhi.testing.edge import (
    FakeAuthenticator,
    FakeBridge,
    FakeInbox,
    FakeLog,
    FakePresence,
    FakeTransport,
    wire_of,
)
from xiaozhi.testing.house import Browser, House
from xiaozhi.wire.mail import Mail
from xiaozhi.wire.messages import Device

MAC = "aa:bb:cc:dd:ee:ff"
HELLO = '{"type":"hello","version":1,"transport":"websocket"}'


def registered(
    client: str, state: DeviceState = DeviceState.APPROVED, device_id: str = MAC
) -> Registered:
    at = datetime(2026, 11, 30, tzinfo=UTC)
    return Registered(device_id, fingerprint(client), "", state, 1, 0, True, "", at, at)


#: The connected client, and whether it is a guest; the change of the id; the reason for closing the
#: link, empty: it stays.
CHANGES = (
    ("c", False, registered("c"), ""),
    ("C", False, registered("c"), ""),
    ("c", False, registered("x"), "wrong_client"),
    ("c", False, registered("c", DeviceState.REVOKED), "revoked"),
    ("", False, registered("x", DeviceState.REVOKED), "revoked"),
    # With a token issued by hand, for any client.
    ("", False, registered("x"), ""),
    ("c", True, registered("c"), ""),
    ("c", True, registered("x"), "wrong_client"),
    ("", True, registered("x"), "wrong_client"),
    ("", True, registered("", DeviceState.REVOKED), "revoked"),
    ("c", False, registered("x", device_id="aa:bb:cc:dd:ee:01"), ""),
)


class GatewayTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.presence, self.inbox = FakePresence(), FakeInbox()
        self.guests = False
        authenticator = FakeAuthenticator()
        admitted = authenticator.authenticate

        def authenticate(token: str | None, device_id: str, client_id: str) -> Device:
            return replace(admitted(token, device_id, client_id), guest=self.guests)

        self.patch(authenticator, "authenticate", authenticate)
        self.gateway = Gateway(
            EdgeServices(FakeBridge(), FakeLog(), authenticator, self.presence, self.inbox),
            self.clock,
            EdgeSettings(),
            "im-1",
        )

    def connect(self, client: str, guest: bool) -> FakeTransport:
        self.guests = guest
        device = self.gateway.admit(Credentials("secret", MAC, client, 1))
        transport = FakeTransport(self.clock)
        channel = WebSocketChannel(transport, 1)
        channel.link = self.gateway.connect(channel, Arrival(device))
        channel.text_received(HELLO)
        return transport

    def test_connections_closed_by_a_change_of_owner(self) -> None:
        for client, guest, change, reason in CHANGES:
            self.setUp()
            transport = self.connect(client, guest)
            self.gateway.owner_changed(change)
            closed = (1008, reason) if reason else None
            self.assertEqual(transport.closed, closed, (client, guest, change))
            self.gateway.stop()

    def test_a_guest_replaces_only_guests(self) -> None:
        """Rows: the existing connection, the new one, whether the existing one stays."""
        for there, comes, stays in (
            (False, True, True),
            (False, False, False),
            (True, True, False),
            (True, False, False),
        ):
            self.setUp()
            former = self.connect("c", there)
            try:
                self.connect("x", comes)
            except AuthError as error:
                self.assertEqual((error.code, error.status), ("wrong_client", 403))
            self.assertEqual(former.closed is None, stays, (there, comes))
            self.gateway.stop()

    def test_a_guest_is_not_where_mail_and_other_edges_look(self) -> None:
        for guest in (True, False):
            self.setUp()
            self.connect("c", guest)
            self.assertEqual(bool(self.inbox.readers), not guest)
            self.assertEqual(bool(self.presence.claims), not guest)
            self.gateway.stop()


class TalkTests(ConversationCase):
    def ask(self, house: House, browser: Browser, words: str) -> str:
        """Ask. :return: the answer."""
        seen = len(browser.texts)
        browser.say(type="listen", state="detect", text=words)
        house.run(3)
        told = [text for text in browser.texts[seen:] if text.get("state") == "sentence_start"]
        return " ".join(text["text"] for text in told)

    def greet(self, house: House, guest: bool) -> Browser:
        browser = house.browse(1, guest)
        browser.say(type="hello", transport="websocket")
        house.run(0.5)
        return browser

    def leave(self, house: House, browser: Browser) -> None:
        wire_of(browser.link).connection_lost("gone")
        house.run(1)

    def test_a_guest_learns_nothing_and_leaves_nothing(self) -> None:
        house = self.house(llm={"recall": "what did I say"})
        owner = self.greet(house, guest=False)
        self.ask(house, owner, "my name is Ada")
        self.leave(house, owner)
        guest = self.greet(house, guest=True)
        self.assertEqual(self.ask(house, guest, "what did I say"), "Nothing.")
        self.ask(house, guest, "my name is Mallory")
        # Within its own session it gets answers like any other.
        self.assertEqual(self.ask(house, guest, "what did I say"), "my name is Mallory")
        self.leave(house, guest)
        owner = self.greet(house, guest=False)
        self.assertEqual(self.ask(house, owner, "what did I say"), "my name is Ada")

    def test_no_mail_for_a_guest(self) -> None:
        house = self.house()
        mail = Mail('{"type":"alert","message":"secret"}', "")
        device_id = numbered(1).device_id
        self.successResultOf(house.inbox.post(device_id, mail, 60))
        guest = self.greet(house, guest=True)
        receipt: Receipt = self.successResultOf(house.inbox.post(device_id, mail, 60))
        house.run(1)
        self.assertFalse(receipt.delivered)
        self.assertEqual(guest.of("alert"), [])
        self.leave(house, guest)
        self.assertEqual(len(self.greet(house, guest=False).of("alert")), 2)

    def test_revocation_cuts_a_talk(self) -> None:
        house = self.house()
        visitor = house.connect()
        device_id = visitor.device.identity.device_id
        house.gateway.owner_changed(registered("", DeviceState.REVOKED, device_id))
        house.run(1)
        self.assertEqual(visitor.cable.closed, (1008, "revoked"))
        self.assertEqual(len(visitor.seen(e.Disconnected)), 1)
        self.assertEqual(house.ai.status().sessions, 0)

    def test_the_ai_ends_the_sessions_of_a_revoked_device_itself(self) -> None:
        """The edge may be on another machine, with a registry of its own."""
        house = self.house()
        holders: dict[str, Registered] = {}
        opened: list[Sessions] = []
        met: list[str] = []

        def accept(sessions: Sessions) -> Sessions:
            opened.append(sessions)
            return sessions

        house.kill_ai()
        house.run(1)
        leases = AgentLeases(house.agents, house.services)
        house.start_ai(
            lambda shared: accept(
                Sessions(shared, leases, holders.get, lambda device: met.append(device.device_id))
            )
        )
        house.run(5)
        visitor = house.connect()
        device_id = visitor.device.identity.device_id
        house.run(1)
        self.assertEqual(met, [device_id])
        gone = registered("", DeviceState.REVOKED, device_id)
        opened[0].owner_changed(replace(gone, device_id="another"))
        opened[0].owner_changed(replace(gone, state=DeviceState.APPROVED))
        house.run(1)
        self.assertIsNone(visitor.cable.closed)
        opened[0].owner_changed(gone)
        house.run(1)
        self.assertEqual(visitor.cable.closed, (1008, "revoked"))
        holders[device_id] = gone
        again = house.connect()
        house.run(1)
        self.assertEqual(again.cable.closed, (1008, "revoked"))
        self.assertEqual(met, [device_id])
