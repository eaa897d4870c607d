"""Ownership of device ids: OTA, tokens, activation, revocation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.ai.http.registration import BindingRegistrar
from xiaozhi.ai.http.settings import HttpSettings
from xiaozhi.ai.http.site import SiteParts, make_site
from xiaozhi.auth import AuthSettings, JwtTokens, OpenAuthenticator, Roster, load_keys
from xiaozhi.base.errors import AuthError, StoreError
from xiaozhi.base.ownership import Applicant, ClaimLimits, DeviceState, Registered, fingerprint
from xiaozhi.device.network import ota
from xiaozhi.testing.database import memory_devices
from xiaozhi.testing.posting import AcceptingInbox, posting
from xiaozhi.testing.vendors.httpwire import Reply, Wire, request
from xiaozhi.web.guards import Insiders
from xiaozhi.wire.messages import Device

NOW = 1_790_000_000.25
MAC = "aa:bb:cc:dd:ee:ff"
OTHER = "aa:bb:cc:dd:ee:01"
OWNER = {
    "Device-Id": MAC,
    "Client-Id": "11111111-2222-4333-8444-555555555555",
    "User-Agent": "bread-compact-wifi/2.4.2",
    "Accept-Language": "zh-CN",
    "Content-Type": "application/json",
}
REPORT: dict[str, Any] = {"mac_address": MAC, "application": {"version": "2.4.2"}}

#: A stranger's request with the MAC: changes of the owner's headers (None: omitted), and body.
STRANGERS: tuple[tuple[dict[str, str | None], Any], ...] = (
    ({"Client-Id": "99999999-2222-4333-8444-555555555555"}, REPORT),
    ({"Client-Id": None}, REPORT),
    ({"Client-Id": ""}, REPORT),
    ({"Client-Id": None}, {**REPORT, "uuid": "99999999-2222-4333-8444-555555555555"}),
    ({"Client-Id": None}, {**REPORT, "uuid": None}),
    ({"Client-Id": "x", "Device-Id": MAC.upper()}, REPORT),
    ({"Client-Id": "x", "Device-Id": f" {MAC} "}, REPORT),
    ({"Client-Id": "x", "Device-Id": None}, REPORT),
    ({"Client-Id": "x", "Serial-Number": "S" * 32, "Activation-Version": "2"}, REPORT),
    ({"Client-Id": "x", "Host": "evil.example"}, REPORT),
    ({"Client-Id": "*"}, {"broken": 1}),
    ({"Client-Id": "%"}, "no JSON"),
    ({"Client-Id": "x", "User-Agent": "a" * 5000}, REPORT),
    ({"Client-Id": "x", "Authorization": "Bearer anything"}, REPORT),
)


def request_of(path: str, change: Mapping[str, str | None], body: Any = REPORT) -> bytes:
    headers = {name: value for name, value in {**OWNER, **change}.items() if value is not None}
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    sent = request("POST", path, headers, data)
    return sent.replace(b"Host: 192.0.2.1\r\n", b"", 1) if "Host" in change else sent


class OwnerCase(SynchronousTestCase):
    """The AI service's site over a real registry."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.registry = memory_devices()
        self.build()

    def build(self, limits: ClaimLimits | None = None, **settings: Any) -> None:
        """Make site and roster anew, over the existing registry."""
        self.roster = Roster(self.registry, self.clock, 2.0)
        self.successResultOf(Deferred.fromCoroutine(self.roster.start()))
        auth = AuthSettings(key="k" * 40)
        self.tokens = JwtTokens(load_keys(auth), auth, self.clock, self.roster)
        chosen = msgspec.convert({"ota": {"edge_check": "", **settings}}, HttpSettings)
        self.registrar = BindingRegistrar(
            chosen.ota, self.registry, self.roster, self.clock.seconds, limits
        )
        parts = SiteParts(
            tokens=self.tokens,
            model=lambda: None,
            health=dict,
            posting=posting(AcceptingInbox()),
            insiders=Insiders(lambda _: None, ()),
            registrar=self.registrar,
        )
        built = make_site(chosen, parts, self.clock)
        self.site, self.visitors = built.site, built.visitors

    def ask(
        self, body: Any = REPORT, path: str = "/xiaozhi/ota/", /, **change: str | None
    ) -> Reply:
        """Send the owner's request with changes."""
        return self.send(
            request_of(path, {k.replace("_", "-"): v for k, v in change.items()}, body)
        )

    def send(self, data: bytes) -> Reply:
        wire = Wire(self.site)
        wire.send(data)
        reply = wire.reply()
        wire.disconnect()
        self.visitors.stop()
        return reply

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.seconds(), UTC)

    def approve(self, code: str) -> Registered:
        return self.successResultOf(self.registry.approve(code, self.now()))

    def revoke(self, device_id: str = MAC) -> None:
        self.successResultOf(self.registry.revoke(device_id, self.now()))

    def token(self, **change: str | None) -> str:
        """Return the token in the answer to the owner's request, or a changed one."""
        reply = self.ask(**change)
        self.assertEqual(reply.status, 200)
        self.assertNotIn("activation", reply.json)
        token: str = reply.json["websocket"]["token"]
        return token

    def activation(self, reply: Reply) -> dict[str, str]:
        """Return the activation in the answer; it must fit devices."""
        self.assertEqual(reply.status, 200)
        self.assertNotIn(b"token", reply.body)
        self.assertNotIn(b"null", reply.body)
        found: dict[str, str] = reply.json["activation"]
        self.assertEqual(set(found), {"code", "message", "challenge"})
        self.assertRegex(found["code"], r"\A[0-9]{6}\Z")
        self.assertEqual(found["message"].splitlines()[1:], [found["code"]])
        self.assertTrue(found["challenge"])
        for flavour in ota.Flavour:
            boot = ota.read(reply.body, flavour)
            self.assertEqual((boot.endpoint, boot.activation), (None, found["code"]))
        return found

    def verdict(self, token: str, client_id: str | None = None, device_id: str = MAC) -> str:
        """Return the result of a connection: ``owner``, ``guest`` or the error's code."""
        client = OWNER["Client-Id"] if client_id is None else client_id
        try:
            device = self.tokens.authenticate(token, device_id, client)
        except AuthError as error:
            return error.code
        return "guest" if device.guest else "owner"


class StrangerTests(OwnerCase):
    def test_a_stranger_with_the_mac_gets_a_code_and_no_token(self) -> None:
        self.token()
        for change, body in STRANGERS:
            self.activation(self.send(request_of("/xiaozhi/ota/", change, body)))
            self.assertEqual(self.verdict(self.token()), "owner", change)

    def test_repeated_claims_neither_lock_the_owner_out_nor_grow(self) -> None:
        self.build(ClaimLimits(claims_per_device=5, claims=8))
        before = self.token()
        for number in range(200):
            self.activation(self.ask(Client_Id=f"x{number}"))
            self.ask(Client_Id="me", Device_Id=f"e{number}")
            self.ask(Client_Id=f"x{number}", Device_Id=f"e{number}")
        self.clock.advance(5)
        self.assertEqual((self.verdict(before), self.verdict(self.token())), ("owner", "owner"))
        claims = self.successResultOf(self.registry.claims(self.now(), 1000))
        self.assertLessEqual(len(claims), 8)

    def test_spellings_of_the_owner(self) -> None:
        self.token()
        for change in (
            {"Client_Id": OWNER["Client-Id"].upper()},
            {"Device_Id": MAC.upper()},
            {"Serial_Number": ""},
        ):
            self.token(**change)
        uuid = {**REPORT, "uuid": OWNER["Client-Id"]}
        reply = self.ask(uuid, Client_Id=None, Device_Id=None)
        self.assertIn("token", reply.json["websocket"])

    def test_a_serial_number_is_bound_once_it_is_sent(self) -> None:
        old = self.token()
        new = self.token(Serial_Number="S" * 32)
        self.assertEqual((self.verdict(old), self.verdict(new)), ("token_revoked", "owner"))
        for serial in ("", "T" * 32, None):
            self.activation(self.ask(Serial_Number=serial))
        self.assertEqual(self.verdict(self.token(Serial_Number="S" * 32)), "owner")

    def test_the_message_is_in_the_devices_language(self) -> None:
        self.token()
        for language, word in (
            ("zh-CN", "批准"),
            ("zh", "批准"),
            ("en-US", "approved"),
            ("", "app"),
        ):
            found = self.activation(self.ask(Client_Id="x", Accept_Language=language))
            self.assertIn(word, found["message"])

    def test_ids_that_cannot_be_used(self) -> None:
        for change, code in (
            ({"Device_Id": "a b"}, "bad_device_id"),
            ({"Device_Id": "x" * 256}, "bad_device_id"),
            ({"Client_Id": "a b"}, "bad_client_id"),
            ({"Client_Id": "x" * 256}, "bad_client_id"),
        ):
            reply = self.ask(**change)
            self.assertEqual((reply.status, reply.json["error"]), (400, code))


#: Registration, listed ids, header changes; the result for an unowned id: owner, guest, code, or
#: the error's code.
UNCLAIMED: tuple[tuple[str, tuple[str, ...], dict[str, str | None], str], ...] = (
    ("open", (), {}, "owner"),
    ("open", (), {"Client_Id": None}, "guest"),
    ("approve", (), {}, "code"),
    ("approve", (), {"Client_Id": None}, "missing_client_id"),
    ("list", (MAC,), {}, "owner"),
    ("list", (MAC.upper(),), {}, "owner"),
    ("list", (MAC,), {"Client_Id": None}, "guest"),
    ("list", (OTHER,), {}, "not_registered"),
    ("list", (), {}, "not_registered"),
    ("list", (OTHER,), {"Client_Id": None}, "not_registered"),
    ("closed", (MAC,), {}, "not_registered"),
    ("closed", (), {"Client_Id": None}, "not_registered"),
)


#: Registration, client id and whether it opens a session with an unowned id as a guest; the owner
#: then.
SESSIONS: tuple[tuple[str, str, bool, str | None], ...] = (
    # Where tokens are not required a device need not ask OTA.
    ("open", "c", True, fingerprint("c")),
    ("open", "", True, None),
    ("list", "c", True, None),
    ("approve", "c", True, None),
    ("closed", "c", True, None),
    # By a token: made before there was a registry, or by hand.
    ("open", "c", False, fingerprint("c")),
    ("list", "c", False, fingerprint("c")),
    ("approve", "c", False, fingerprint("c")),
    ("closed", "c", False, fingerprint("c")),
    ("open", "", False, ""),
)


class RegistrationTests(OwnerCase):
    def outcome(self, reply: Reply) -> str:
        if reply.status != 200:
            return str(reply.json["error"])
        if "activation" in reply.json:
            self.activation(reply)
            return "code"
        return self.verdict(reply.json["websocket"]["token"], "")

    def test_unowned_ids(self) -> None:
        for registration, listed, change, expected in UNCLAIMED:
            self.registry = memory_devices()
            self.build(registration=registration, listed=list(listed))
            outcome = self.outcome(self.ask(**change))
            self.assertEqual(outcome, expected, (registration, listed, change))

    def test_known_devices_are_admitted_in_every_registration_mode(self) -> None:
        path = self.mktemp()
        for registration in ("open", "approve", "list", "closed"):
            self.registry = memory_devices(path)
            self.build(registration=registration)
            self.assertEqual(self.outcome(self.ask()), "owner", registration)
            self.assertEqual(self.outcome(self.ask(Client_Id="x")), "code", registration)

    def test_a_full_registry(self) -> None:
        self.build(ClaimLimits(devices=1))
        self.token()
        self.assertEqual(self.outcome(self.ask(Device_Id=OTHER)), "wrong_device")
        token = self.ask(Device_Id=OTHER).json["websocket"]["token"]
        self.assertEqual(self.verdict(token, "", OTHER), "guest")
        self.assertEqual(len(self.flushLoggedErrors()), 0)

    def test_a_registry_that_is_away(self) -> None:
        """Known devices get their configuration; others must retry later."""
        self.token()
        away = StoreError("store_unavailable", "it is away")
        self.patch(self.registry, "apply", lambda *_: fail(away))
        self.assertEqual(self.verdict(self.token()), "owner")
        for change in ({"Client_Id": "x"}, {"Device_Id": OTHER}):
            reply = self.ask(**change)
            self.assertEqual((reply.status, reply.json["error"]), (503, "registry_unavailable"))

    def test_before_the_registry_was_read(self) -> None:
        away = StoreError("store_unavailable", "it is away")
        real = self.registry.changes
        self.patch(self.registry, "changes", lambda *_: fail(away))
        self.build()
        self.assertEqual(self.ask().status, 503)
        self.assertIn("away", self.roster.trouble())
        self.patch(self.registry, "changes", real)
        self.clock.advance(2)
        self.assertEqual((self.ask().status, self.roster.trouble()), (200, ""))

    def test_applicants_at_once_are_bounded(self) -> None:
        self.patch(self.registry, "apply", lambda *_: Deferred())
        wires = [Wire(self.site) for _ in range(101)]
        for number, wire in enumerate(wires):
            wire.send(request_of("/xiaozhi/ota/", {"Client-Id": f"x{number}"}))
        self.assertEqual(wires[-1].reply().status, 503)
        self.assertEqual(wires[-2].transport.value(), b"")
        for wire in wires:
            wire.disconnect()
        self.patch(self.registry, "apply", lambda *_: fail(StoreError("x", "y")))
        self.assertEqual(self.ask().json["error"], "registry_unavailable")

    def test_ownership_by_a_session(self) -> None:
        """A device that requests OTA only at its next boot, or never, is protected too."""
        for registration, client, guest, holder in SESSIONS:
            self.registry = memory_devices()
            self.build(registration=registration)
            self.registrar.met(Device(MAC, client, "u", guest))
            found = self.roster.get(MAC)
            told = (registration, client, guest)
            self.assertEqual(found and found.client, holder, told)
            if found is not None:
                self.assertEqual(self.outcome(self.ask()), "code", told)
                count = self.successResultOf(Deferred.fromCoroutine(self.registrar.flush(10)))
                self.assertEqual(count, 1, "it is used")

    def test_sessions_of_others_do_not_change_the_owner(self) -> None:
        self.token()
        before = self.roster.get(MAC)
        for guest in (False, True):
            self.registrar.met(Device(MAC, "x", "u", guest))
        self.clock.advance(2)
        self.assertEqual(self.roster.get(MAC), before)

    def test_seen_devices_are_recorded(self) -> None:
        device = self.tokens.authenticate(self.token(), MAC, "")
        for used in (False, True):
            self.clock.advance(60)
            if used:
                self.registrar.met(device)
            else:
                self.token()
            count = self.successResultOf(Deferred.fromCoroutine(self.registrar.flush(10)))
            [found] = self.successResultOf(self.registry.devices(10))
            self.assertEqual((count, found.used, found.last_seen), (1, used, self.now()))
        count = self.successResultOf(Deferred.fromCoroutine(self.registrar.flush(10)))
        self.assertEqual(count, 0)


class ActivationTests(OwnerCase):
    activate = "/xiaozhi/ota/activate"
    reflashed = {"Client_Id": "99999999-2222-4333-8444-555555555555"}

    #: Requests of clients: the firmware's own two, and py-xiaozhi's.
    bodies: tuple[Any, ...] = (
        {},
        {"algorithm": "hmac-sha256", "serial_number": "S", "challenge": "c", "hmac": "0" * 64},
        {"Payload": {"algorithm": "hmac-sha256", "serial_number": "S", "challenge": "c"}},
        "",
        "no JSON",
        [[]],
    )

    def test_the_owner_after_erasing_the_flash(self) -> None:
        former = self.token()
        code = self.activation(self.ask(**self.reflashed))["code"]
        for body in self.bodies:
            self.assertEqual(self.ask(body, self.activate, **self.reflashed).status, 202)
        self.assertEqual(self.activation(self.ask(**self.reflashed))["code"], code)
        self.approve(code)
        self.clock.advance(2)
        for body in self.bodies:
            self.assertEqual(self.ask(body, self.activate, **self.reflashed).status, 200)
        token = self.token(**self.reflashed)
        self.assertEqual(self.verdict(token, self.reflashed["Client_Id"]), "owner")
        self.assertEqual(self.verdict(former), "token_revoked")
        self.activation(self.ask())

    def test_clients_that_may_see_the_approval(self) -> None:
        self.token()
        for change, status in (
            ({}, 200),
            ({"Client_Id": "x"}, 202),
            ({"Client_Id": None}, 202),
            ({"Device_Id": OTHER}, 202),
            ({"Device_Id": None}, 400),
        ):
            self.assertEqual(self.ask({}, self.activate, **change).status, status, change)

    def test_the_code_changes_when_it_has_expired(self) -> None:
        self.build(ClaimLimits(ttl=600.0))
        self.token()
        code = self.activation(self.ask(Client_Id="x"))["code"]
        challenge = self.activation(self.ask(Client_Id="x"))["challenge"]
        self.assertNotEqual(self.activation(self.ask(Client_Id="x"))["challenge"], challenge)
        self.clock.advance(601)
        self.failureResultOf(self.registry.approve(code, self.now()), StoreError)

    def test_revocation_and_back(self) -> None:
        token = self.token()
        self.revoke()
        self.assertEqual(self.verdict(token), "owner")
        self.clock.advance(2)
        self.assertEqual(self.verdict(token), "revoked")
        self.assertEqual(self.ask({}, self.activate).status, 202)
        self.approve(self.activation(self.ask())["code"])
        self.clock.advance(2)
        self.assertEqual(self.verdict(token), "token_revoked")
        self.assertEqual(self.verdict(self.token()), "owner")

    def test_a_process_with_an_old_copy_accepts_the_token(self) -> None:
        path = self.mktemp()
        self.registry = memory_devices(path)
        self.build()
        self.token()
        late = Roster(memory_devices(path), self.clock, 60.0)
        self.successResultOf(Deferred.fromCoroutine(late.start()))
        self.approve(self.activation(self.ask(**self.reflashed))["code"])
        token = self.token(**self.reflashed)
        auth = AuthSettings(key="k" * 40)
        edge = JwtTokens(load_keys(auth), auth, self.clock, late)
        edge.authenticate(token, MAC, self.reflashed["Client_Id"])


def held(
    client: str = "c", state: DeviceState = DeviceState.APPROVED, revision: int = 5, since: int = 0
) -> Registered:
    at = datetime.fromtimestamp(NOW, UTC)
    return Registered(MAC, fingerprint(client), "", state, revision, since, True, "board", at, at)


_REVOKED = held(state=DeviceState.REVOKED, since=int(NOW))
_BACK = held(since=int(NOW))
_T = {"iat": int(NOW)}

#: The owner of the id, claims of a valid token, the result.
TOKENS: tuple[tuple[Registered | None, dict[str, Any], str], ...] = (
    (None, {**_T, "client_id": "c"}, ""),
    (None, {**_T, "guest": True}, ""),
    (held(), {**_T, "client_id": "c", "revision": 5}, ""),
    (held(), {**_T, "client_id": "c", "revision": 4}, "token_revoked"),
    (held(), {**_T, "client_id": "x", "revision": 4}, "token_revoked"),
    # Another process issued it, and this one has not read the change yet.
    (held(), {**_T, "client_id": "x", "revision": 6}, ""),
    (_REVOKED, {"iat": int(NOW) + 1, "client_id": "x", "revision": 6}, ""),
    # From a lost registry with higher revisions.
    (_REVOKED, {**_T, "client_id": "c", "revision": 6}, "revoked"),
    (_REVOKED, {**_T, "client_id": "c", "revision": 5}, "revoked"),
    (_REVOKED, {**_T, "client_id": "c", "by_hand": True}, "revoked"),
    (_REVOKED, {"iat": NOW + 100, "by_hand": True}, "revoked"),
    # Issued by hand: for any client, or for the named one.
    (held(), {**_T, "client_id": "", "by_hand": True}, ""),
    (held(), {**_T, "client_id": "x", "by_hand": True}, ""),
    (_BACK, {"iat": int(NOW), "by_hand": True}, "token_revoked"),
    (_BACK, {"by_hand": True}, "token_revoked"),
    (_BACK, {"iat": "then", "by_hand": True}, "token_revoked"),
    (_BACK, {"iat": int(NOW) + 1, "by_hand": True}, ""),
    # Made before there was a registry, or by an old xiaozhi-token.
    (held(), {**_T, "client_id": "c"}, ""),
    (held(), {**_T, "client_id": "C"}, ""),
    (held(), {**_T, "client_id": ""}, ""),
    (held(), {**_T, "client_id": "x"}, "wrong_client"),
    (held(), {**_T, "client_id": "", "guest": True}, "wrong_client"),
    # Not a valid revision.
    (held(), {**_T, "client_id": "x", "revision": "9"}, "wrong_client"),
    (held(), {**_T, "client_id": "x", "revision": True}, "wrong_client"),
    (held(), {**_T, "client_id": "x", "revision": 9.5}, "wrong_client"),
)

#: Without a token, if none is required: the owner of the id, the client; the result.
TOKENLESS: tuple[tuple[Registered | None, str, str], ...] = (
    (None, "c", "guest"),
    (None, "", "guest"),
    (held(), "c", "owner"),
    (held(), "C", "owner"),
    (held(), "x", "wrong_client"),
    (held(), "", "wrong_client"),
    (held(""), "", "wrong_client"),
    (_REVOKED, "c", "revoked"),
)


class TokenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)

    def roster(self, entry: Registered | None) -> Roster:
        roster = Roster(memory_devices(), self.clock, 2.0)
        if entry is not None:
            roster.put(entry)
        return roster

    def test_tokens(self) -> None:
        for entry, claims, expected in TOKENS:
            code = ""
            try:
                self.roster(entry).check(MAC, claims)
            except AuthError as error:
                code = error.code
                self.assertEqual(error.status, 403)
            self.assertEqual(code, expected, (entry, claims))

    def test_where_tokens_are_not_required(self) -> None:
        auth = AuthSettings(key="k" * 40)
        for entry, client, expected in TOKENLESS:
            roster = self.roster(entry)
            tokens = JwtTokens(load_keys(auth), auth, self.clock, roster)
            for token in (None, "Bearer None", "Bearer of-its-own"):
                try:
                    device = OpenAuthenticator(tokens, roster).authenticate(token, MAC, client)
                    outcome = "guest" if device.guest else "owner"
                except AuthError as error:
                    outcome = error.code
                self.assertEqual(outcome, expected, (entry, client, token))

    def test_a_revoked_device_has_no_way_in(self) -> None:
        """With any credentials, for conversations and photos, also without authentication."""
        auth = AuthSettings(key="k" * 40)
        roster = self.roster(_REVOKED)
        tokens = JwtTokens(load_keys(auth), auth, self.clock, roster)
        by_hand = JwtTokens(load_keys(auth), auth, self.clock)
        for token in (None, "rubbish", by_hand.issue(Device(MAC, "c", "u"), "vision", 60)):
            with self.assertRaises(AuthError) as caught:
                OpenAuthenticator(tokens, roster).verify(token, MAC, "vision")
            self.assertEqual(caught.exception.code, "revoked")
        other = OpenAuthenticator(tokens, roster).verify(None, OTHER, "vision")
        self.assertEqual(other.device_id, OTHER)

    def test_user_of_a_device(self) -> None:
        for entry, client, serial, belongs in (
            (held(), "c", "", True),
            (held(), "C ", "S", True),
            (held(), "x", "", False),
            (held(), "", "", False),
            (held(""), "", "", False),
            (_REVOKED, "c", "", False),
            (replace(held(), serial=fingerprint("S")), "c", "s", True),
            (replace(held(), serial=fingerprint("S")), "c", "T", False),
            (replace(held(), serial=fingerprint("S")), "c", "", False),
        ):
            asks = Applicant(MAC, fingerprint(client), fingerprint(serial))
            self.assertEqual(entry.belongs_to(asks), belongs, (entry, client, serial))

    def test_a_token_by_hand_where_none_is_required(self) -> None:
        auth = AuthSettings(key="k" * 40)
        by_hand = JwtTokens(load_keys(auth), auth, self.clock)
        token = by_hand.issue(Device(MAC, "", "u"), "device", 60)
        roster = self.roster(held())
        tokens = JwtTokens(load_keys(auth), auth, self.clock, roster)
        device = OpenAuthenticator(tokens, roster).authenticate(token, MAC, "another")
        self.assertEqual((device.user_id, device.guest), ("u", False))

    def test_photos_of_a_revoked_device(self) -> None:
        auth = AuthSettings(key="k" * 40)
        roster = self.roster(None)
        tokens = JwtTokens(load_keys(auth), auth, self.clock, roster)
        token = tokens.issue(Device(MAC, "c", "u"), "vision", 60)
        for entry, code in ((held(), ""), (_REVOKED, "revoked")):
            for judge in (tokens, OpenAuthenticator(tokens, roster)):
                found = ""
                roster.put(replace(entry, revision=entry.revision + (1 if code else 0)))
                try:
                    judge.verify(token, MAC, "vision")
                except AuthError as error:
                    found = error.code
                self.assertEqual(found, code)


class RosterTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.registry = memory_devices()
        self.roster = Roster(self.registry, self.clock, 2.0)
        self.heard: list[Registered] = []
        self.roster.when_changed(self.heard.append)
        self.successResultOf(Deferred.fromCoroutine(self.roster.start()))

    def revoke(self, number: int) -> Registered:
        at = datetime.fromtimestamp(NOW, UTC)
        return self.successResultOf(self.registry.revoke(f"d{number}", at))

    def test_reads_changes_within_its_interval(self) -> None:
        gone = self.revoke(1)
        self.clock.advance(1.9)
        self.assertEqual(self.heard, [])
        self.clock.advance(0.2)
        self.assertEqual((self.heard, self.roster.get("d1")), ([gone], gone))
        self.clock.advance(10)
        self.assertEqual(len(self.heard), 1, "each once")

    def test_many_at_once(self) -> None:
        for number in range(1100):
            self.revoke(number)
        self.clock.advance(2)
        self.assertEqual((len(self.roster), len(self.heard)), (1100, 1100))

    def test_continues_on_the_last_known_state_while_the_registry_is_away(self) -> None:
        self.revoke(1)
        self.clock.advance(2)
        real = self.registry.changes
        self.patch(self.registry, "changes", lambda *_: fail(StoreError("store_unavailable", "no")))
        self.revoke(2)
        self.clock.pump([2.0] * 5)
        self.assertEqual((self.roster.trouble(), len(self.roster)), ("no", 1))
        self.patch(self.registry, "changes", real)
        self.clock.advance(2)
        self.assertEqual((self.roster.trouble(), len(self.roster)), ("", 2))

    def test_a_registry_that_cannot_be_used_is_an_error(self) -> None:
        self.patch(self.registry, "start", lambda: fail(StoreError("schema_too_new", "no")))
        roster = Roster(self.registry, self.clock, 2.0)
        self.failureResultOf(Deferred.fromCoroutine(roster.start()), StoreError)

    def test_forgets_purged_devices(self) -> None:
        """Otherwise invented ids would stay for ever."""
        for number in (1, 2):
            self.revoke(number)
        self.clock.advance(2)
        real = self.registry.changes

        def without_the_first(after: int, limit: int) -> Deferred[list[Registered]]:
            found: Deferred[list[Registered]] = real(after, limit)
            return found.addCallback(lambda rows: [r for r in rows if r.device_id != "d1"])

        self.patch(self.registry, "changes", without_the_first)
        self.clock.pump([2.0] * 1700)
        self.assertEqual(len(self.roster), 2)
        self.clock.pump([2.0] * 120)
        self.assertEqual([self.roster.get(f"d{n}") is None for n in (1, 2)], [True, False])
        self.assertEqual(len(self.heard), 2)

    def test_older_revisions_are_ignored(self) -> None:
        self.roster.put(held(revision=5))
        self.roster.put(held("x", revision=4))
        self.roster.put(held("x", revision=5))
        self.assertEqual(self.roster.get(MAC), held(revision=5))

    def test_stopping(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.roster.stop()))
        self.assertEqual(self.clock.getDelayedCalls(), [])
