"""Keys and device tokens."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xiaozhi.auth import (
    AuthSettings,
    JwtTokens,
    KeyFile,
    OpenAuthenticator,
    bare_token,
    device_identity,
    load_keys,
    make_tokens,
)
from xiaozhi.base.errors import AuthError, ConfigError
from xiaozhi.interfaces import IAuthenticator, IDeviceTokens
from xiaozhi.wire.messages import Device

SECRET = "a-secret-of-sixty-four-characters-for-tests-that-need-one-0123456"
MAC = "aa:bb:cc:dd:ee:ff"
DEVICE = Device(device_id=MAC, client_id="11-22", user_id="u1")
NOW = 1_790_000_000.0


class TokenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.settings = AuthSettings(key=SECRET)
        self.tokens = JwtTokens(load_keys(self.settings), self.settings, self.clock)

    def signed(self, **claims: Any) -> str:
        base = {"user_id": "u1", "device_id": MAC, "exp": NOW + 60}
        wanted = {k: v for k, v in {**base, **claims}.items() if v is not None}
        return jwt.encode(wanted, SECRET, algorithm="HS256")

    def refused(self, token: str | None, device_id: str = MAC, client_id: str = "") -> AuthError:
        error = self.assertRaises(AuthError, self.tokens.authenticate, token, device_id, client_id)
        assert isinstance(error, AuthError)
        if token and len(token) > 20:
            self.assertNotIn(token, str(error))
        return error

    def test_interfaces(self) -> None:
        for provider in (self.tokens, OpenAuthenticator(self.tokens)):
            verifyObject(IAuthenticator, provider)
            verifyObject(IDeviceTokens, provider)

    def test_round_trip_in_every_spelling(self) -> None:
        token = self.tokens.issue(DEVICE, "device", 60)
        for spelling in (f"Bearer {token}", f"bearer {token}", f"  BEARER  {token} ", token):
            self.assertEqual(self.tokens.authenticate(spelling, MAC, "11-22"), DEVICE)

    def test_no_token(self) -> None:
        for none in (None, "", "Bearer", "Bearer ", "Bearer None", "bearer null", "None"):
            error = self.refused(none)
            self.assertEqual((error.code, error.status), ("missing_token", 401), none)

    def test_junk(self) -> None:
        deep = jwt.utils.base64url_encode(b"[" * 2900).decode()
        for token in ("test-token", "a.b.c", "é.é.é", "\ud800", deep + ".e30.AA", "x" * 5000):
            error = self.refused(token)
            self.assertEqual((error.code, error.status), ("bad_token", 401), token[:20])

    def test_a_foreign_key(self) -> None:
        token = jwt.encode({"device_id": MAC, "exp": NOW + 9}, "b" * 40, algorithm="HS256")
        self.assertEqual(self.refused(token).code, "bad_token")

    def test_the_header_does_not_choose_the_algorithm(self) -> None:
        claims = {"user_id": "u1", "device_id": MAC, "exp": NOW + 60}
        for token in (
            jwt.encode(claims, "", algorithm="none"),
            jwt.encode(claims, SECRET * 2, algorithm="HS512"),
            jwt.encode(claims, SECRET, algorithm="HS384"),
        ):
            self.assertEqual(self.refused(token).code, "bad_token")

    def test_a_public_key_is_no_hmac_secret(self) -> None:
        chosen = AuthSettings(algorithm="ES256", key_file=self.mktemp())
        keys = load_keys(chosen)
        self.tokens = JwtTokens(keys, chosen, self.clock)
        assert not isinstance(keys.checking, str)
        pem = keys.checking.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        header = jwt.utils.base64url_encode(b'{"alg":"HS256","typ":"JWT"}')
        body = jwt.utils.base64url_encode(b'{"user_id":"u","device_id":"x","exp":9999999999}')
        mac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
        signature = jwt.utils.base64url_encode(mac.sign(header + b"." + body, pem))
        forged = b".".join((header, body, signature)).decode()
        self.assertEqual(self.refused(forged).code, "bad_token")

    def test_times_on_the_given_clock(self) -> None:
        token = self.tokens.issue(DEVICE, "device", 60)
        self.clock.advance(60 + 29.9)
        self.tokens.authenticate(token, MAC, "")
        self.clock.advance(0.2)
        error = self.refused(token)
        self.assertEqual((error.code, error.status), ("token_expired", 401))

    def test_not_yet(self) -> None:
        token = self.signed(nbf=NOW + 31)
        self.assertEqual(self.refused(token).code, "token_not_yet_valid")
        self.clock.advance(1)
        self.tokens.authenticate(token, MAC, "")

    def test_times_must_be_times(self) -> None:
        exps: tuple[Any, ...] = ("soon", [1], True, float("inf"), float("nan"), {})
        for exp in exps:
            self.assertEqual(self.refused(self.signed(exp=exp)).code, "bad_token", exp)
        self.assertEqual(self.refused(self.signed(exp=None)).code, "bad_token")
        self.assertEqual(self.refused(self.signed(nbf="x")).code, "bad_token")

    def test_times_of_any_size_are_ordinary_refusals(self) -> None:
        """JSON may have integers that no float can hold; tokens of the far future are refused."""
        for name, value, code in (
            ("exp", 10**400, "bad_token"),
            ("exp", -(10**400), "bad_token"),
            ("exp", 10**3000, "bad_token"),
            ("exp", 1e308, "bad_token"),
            ("exp", -1e308, "bad_token"),
            ("exp", 2**63, "bad_token"),
            ("exp", int(NOW) * 1000, "bad_token"),  # milliseconds
            ("exp", 253_402_300_800, "bad_token"),
            ("exp", 253_402_300_799, ""),
            ("exp", 0, "token_expired"),
            ("exp", -1, "token_expired"),
            ("nbf", 10**400, "bad_token"),
            ("nbf", -(10**400), "bad_token"),
            ("nbf", 1e308, "bad_token"),
            ("nbf", 253_402_300_799, "token_not_yet_valid"),
            ("nbf", -253_402_300_799, ""),
            ("iat", 10**400, ""),  # has no effect on validity
        ):
            token = self.signed(**{name: value})
            if code:
                error = self.refused(token)
                self.assertEqual((error.code, error.status), (code, 401), (name, str(value)[:20]))
            else:
                self.assertEqual(self.tokens.authenticate(token, MAC, "").user_id, "u1")

    def test_other_device(self) -> None:
        error = self.refused(self.signed(device_id="aa:bb:cc:dd:ee:00"))
        self.assertEqual((error.code, error.status), ("wrong_device", 403))
        for owner in (None, 5, "", [MAC]):
            self.assertEqual(self.refused(self.signed(device_id=owner)).code, "wrong_device")

    def test_mac_addresses_have_one_form_other_ids_are_exact(self) -> None:
        token = self.signed(device_id=MAC.upper())
        self.assertEqual(self.tokens.authenticate(token, MAC.upper(), "").device_id, MAC)
        self.assertEqual(self.tokens.authenticate(token, MAC, "").device_id, MAC)
        self.assertEqual(self.refused(self.signed(device_id="Web"), "web").code, "wrong_device")

    def test_device_id_is_needed(self) -> None:
        token = self.signed()
        for given_id in ("", "  "):
            error = self.refused(token, given_id)
            self.assertEqual((error.code, error.status), ("missing_device_id", 400))
        for given_id in ("a b", "a\x00b", "ä", "x" * 256):
            self.assertEqual(self.refused(token, given_id).code, "bad_device_id")
        self.assertEqual(self.refused(token, MAC, "a\nb").code, "bad_client_id")

    def test_client(self) -> None:
        token = self.tokens.issue(DEVICE, "device", 60)
        self.assertEqual(self.tokens.authenticate(token, MAC, "").client_id, "11-22")
        error = self.refused(token, MAC, "33-44")
        self.assertEqual((error.code, error.status), ("wrong_client", 403))
        self.assertEqual(self.tokens.authenticate(self.signed(), MAC, "33").client_id, "33")

    def test_scopes_do_not_open_each_other(self) -> None:
        vision = self.tokens.issue(DEVICE, "vision", 60)
        error = self.refused(vision)
        self.assertEqual((error.code, error.status), ("wrong_scope", 403))
        self.assertEqual(self.tokens.verify(vision, MAC, "vision"), DEVICE)
        device = self.tokens.issue(DEVICE, "device", 60)
        self.assertRaises(AuthError, self.tokens.verify, device, MAC, "vision")

    def test_user(self) -> None:
        token = self.signed(user_id=None, sub="u2")
        self.assertEqual(self.tokens.authenticate(token, MAC, "").user_id, "u2")
        for user in ("", 5, "a\x00", "x" * 256):
            self.assertEqual(self.refused(self.signed(user_id=user)).code, "bad_token", user)

    def test_issuer(self) -> None:
        chosen = AuthSettings(key=SECRET, issuer="me")
        mine = JwtTokens(load_keys(chosen), chosen, self.clock)
        token = mine.issue(DEVICE, "device", 60)
        self.assertEqual(mine.authenticate(token, MAC, ""), DEVICE)
        for iss in (None, "you"):
            self.assertRaises(AuthError, mine.authenticate, self.signed(iss=iss), MAC, "")

    def test_a_token_fits_the_device(self) -> None:
        """§7.5: a string over about 4000 bytes in the OTA answer is a boot loop."""
        longest = Device(device_id="x" * 255, client_id="y" * 255, user_id="z" * 255)
        self.assertLess(len(self.tokens.issue(longest, "device", 60)), 2000)

    def test_ids_that_cannot_be_issued(self) -> None:
        for device in (
            Device(device_id="", client_id="", user_id="u"),
            Device(device_id="d", client_id="c c", user_id="u"),
            Device(device_id="d", client_id="", user_id=""),
        ):
            self.assertRaises(AuthError, self.tokens.issue, device, "device", 60)

    @settings(max_examples=100)
    @given(
        st.one_of(st.text(max_size=200), st.binary(max_size=200).map(lambda b: b.decode("latin1")))
    )
    def test_any_text_is_an_ordinary_refusal(self, token: str) -> None:
        self.assertIn(self.refused(token).code, {"bad_token", "missing_token"})


class OpenTests(SynchronousTestCase):
    def setUp(self) -> None:
        chosen = AuthSettings(key=SECRET, required=False)
        made = make_tokens(chosen, Clock())
        assert isinstance(made, OpenAuthenticator)
        self.open = made

    def test_no_token(self) -> None:
        device = self.open.authenticate("Bearer None", MAC.upper(), "c")
        self.assertEqual(device, Device(device_id=MAC, client_id="c", user_id=f"open:{MAC}"))
        self.assertEqual(self.open.verify("junk", MAC, "vision").user_id, f"open:{MAC}")

    def test_token(self) -> None:
        token = self.open.issue(DEVICE, "device", 60)
        self.assertEqual(self.open.authenticate(token, MAC, "").user_id, "u1")
        other = self.open.authenticate(token, "other", "")
        self.assertEqual(other, Device(device_id="other", client_id="", user_id="open:other"))

    def test_device_id_is_still_needed(self) -> None:
        self.assertRaises(AuthError, self.open.authenticate, None, "", "")


class KeyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.path = self.directory / "deep" / "jwt.key"
        self.settings = AuthSettings(key_file=str(self.path))

    def refused(self, **changes: Any) -> str:
        changed = msgspec.structs.replace(self.settings, **changes)
        error = self.assertRaises(ConfigError, load_keys, changed)
        assert isinstance(error, ConfigError)
        return error.message

    def test_made_once_and_private(self) -> None:
        first, second = load_keys(self.settings), load_keys(self.settings)
        self.assertEqual(first, second)
        assert isinstance(first.signing, str)
        self.assertGreaterEqual(len(first.signing), 43)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.path.parent.stat().st_mode), 0o700)
        self.assertEqual([p.name for p in self.path.parent.iterdir()], ["jwt.key"])

    def test_two_starting_at_once_agree(self) -> None:
        """Each has found no file before the other has written its own."""
        barrier = threading.Barrier(8)
        read: list[bytes] = []

        def start(number: int) -> None:
            def make() -> bytes:
                barrier.wait(10)
                return b"%d" % number * 40

            read.append(KeyFile(self.path, "k").read_or_make(make))

        threads = [threading.Thread(target=start, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(read), 8)
        self.assertEqual(len(set(read)), 1)
        self.assertEqual(len(read[0]), 40)

    def test_too_short(self) -> None:
        self.path.parent.mkdir(parents=True)
        self.path.write_text("short\n")
        self.assertIn("auth.key_file", self.refused())
        self.assertIn("fewer than 32", self.refused())
        self.assertIn("auth.key:", self.refused(key="short"))

    def test_unreadable_and_unwritable(self) -> None:
        self.path.mkdir(parents=True)
        self.assertIn("cannot be read: Is a directory", self.refused())
        (self.directory / "file").write_text("")
        self.assertIn("cannot be made", self.refused(key_file=str(self.directory / "file" / "k")))
        os.symlink("nowhere", self.directory / "link")
        self.assertIn("cannot be read", self.refused(key_file=str(self.directory / "link")))

    def test_open_to_others_is_warned_about(self) -> None:
        load_keys(self.settings)
        self.path.chmod(0o644)
        with capturedLogs() as events:
            keys = load_keys(self.settings)
        warnings = [event for event in events if event["log_level"] is LogLevel.warn]
        self.assertEqual([event["mode"] for event in warnings], ["644"])
        self.assertNotIn(str(keys.signing), str(events))

    def test_secrets_are_not_shown(self) -> None:
        chosen = AuthSettings(key=SECRET)
        self.assertNotIn(SECRET, repr(chosen) + repr(load_keys(chosen)))

    def test_pairs(self) -> None:
        clock = Clock()
        for algorithm in ("ES256", "RS256"):
            chosen = msgspec.structs.replace(self.settings, algorithm=algorithm)
            token = JwtTokens(load_keys(chosen), chosen, clock).issue(DEVICE, "device", 60)
            private = f"{self.path}.{algorithm.lower()}.pem"
            self.assertEqual(stat.S_IMODE(os.stat(private).st_mode), 0o600)
            public = msgspec.structs.replace(chosen, public_key_file=private + ".pub")
            checker = JwtTokens(load_keys(public), public, clock)
            self.assertEqual(checker.authenticate(token, MAC, ""), DEVICE)
            self.assertRaises(ConfigError, checker.issue, DEVICE, "device", 60)
            both = msgspec.structs.replace(public, private_key_file=private)
            self.assertIsNotNone(load_keys(both).signing)
            self.assertLess(len(token), 2000)

    def test_wrong_pairs(self) -> None:
        es = msgspec.structs.replace(self.settings, algorithm="ES256")
        load_keys(es)
        pem = f"{self.path}.es256.pem"
        self.assertIn("RSA", self.refused(algorithm="RS256", private_key_file=pem))
        self.assertIn("RSA", self.refused(algorithm="RS256", public_key_file=pem + ".pub"))
        self.assertIn("PEM", self.refused(algorithm="ES256", private_key_file=pem + ".pub"))
        self.assertIn("PEM", self.refused(algorithm="ES256", public_key_file=pem))
        self.assertIn("auth.key:", self.refused(algorithm="ES256", key=SECRET))
        other = msgspec.structs.replace(es, key_file=str(self.directory / "other"))
        load_keys(other)
        self.assertIn(
            "does not belong",
            self.refused(
                algorithm="ES256",
                private_key_file=pem,
                public_key_file=f"{self.directory / 'other'}.es256.pem.pub",
            ),
        )

    def test_settings_are_checked(self) -> None:
        for bad in ({"algorithm": "none"}, {"ttl": 1}, {"leeway": -1}, {"secret": "x"}):
            self.assertRaises(msgspec.ValidationError, msgspec.convert, bad, AuthSettings)


class SpellingTests(SynchronousTestCase):
    def test_bare_token(self) -> None:
        for given_text, bare in (
            ("Bearer a.b.c", "a.b.c"),
            ("a.b.c", "a.b.c"),
            ("Basic abc", "Basic abc"),
            ("bearer\ta", "bearer\ta"),
            (None, ""),
        ):
            self.assertEqual(bare_token(given_text), bare)

    @settings(max_examples=100)
    @given(st.text(max_size=300))
    def test_identity_is_stable(self, text: str) -> None:
        try:
            once = device_identity(text)
        except AuthError as error:
            self.assertEqual(error.status, 400)
        else:
            self.assertEqual(device_identity(once), once)
