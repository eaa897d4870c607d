"""Ownership of device ids with both services and the command line, as processes."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import sysconfig
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.guests import IM_SETS, Guest, ServiceCase, new_identity
from tests.rawsocket import RawSocket, firmware_head
from tests.services import DOUBLES, ROOT, Pair
from xiaozhi.auth import admin_token
from xiaozhi.device import events as e
from xiaozhi.device.identity import Identity
from xiaozhi.device.network.ota import Boot, Flavour

AI_SETS = (*DOUBLES, "providers.llm.scripted.recall=what did I say")
SOON = ("devices.poll_interval=0.2",)
STRANGER = "99999999-2222-4333-8444-555555555555"


class OwnersCase(ServiceCase):
    timeout = 120

    def services(self, *sets: str, only: str = "") -> Pair:
        """Start services.

        :param only: ``ai``: the sets are for that service alone.
        """
        edge = () if only == "ai" else sets
        pair = Pair((*IM_SETS, *SOON, *edge), (*AI_SETS, *SOON, *sets))
        self.addCleanup(pair.end)
        return pair.start()

    async def command(self, pair: Pair, *argv: str) -> str:
        """Run ``xiaozhi-token devices`` beside the running services."""
        config = pair.directory / "token.yaml"
        config.write_text(f"state_dir: {pair.state}\n")
        command = [sys.executable, str(Path(sysconfig.get_path("scripts")) / "xiaozhi-token")]
        ended: Any = await deferToThread(
            subprocess.run,
            [*command, "devices", *argv, "--config", str(config)],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        return str(ended.stdout)

    async def ota(
        self, pair: Pair, identity: Identity, path: str = "", **headers: str
    ) -> tuple[int, Any]:
        """Return the OTA answer for a device id."""

        def ask() -> tuple[int, Any]:
            connection = http.client.HTTPConnection("127.0.0.1", pair.http_port, timeout=20)
            sent = {"Device-Id": identity.device_id, "Client-Id": identity.client_id, **headers}
            try:
                connection.request("POST", f"/xiaozhi/ota/{path}", "{}", sent)
                response = connection.getresponse()
                return response.status, json.loads(response.read())
            finally:
                connection.close()

        found: tuple[int, Any] = await deferToThread(ask)
        return found

    async def post(self, pair: Pair, device_id: str, words: str) -> int:
        """Post an alert to a device. :return: the status."""

        def send() -> int:
            connection = http.client.HTTPConnection("127.0.0.1", pair.edge_port, timeout=20)
            alert = {"type": "alert", "status": "x", "message": words, "emotion": "happy"}
            headers = {"Authorization": f"Bearer {admin_token(pair.settings)}"}
            try:
                path = f"/api/devices/{device_id}/messages"
                connection.request("POST", path, json.dumps({"message": alert}), headers)
                return connection.getresponse().status
            finally:
                connection.close()

        status: int = await deferToThread(send)
        return status

    async def booted(self, pair: Pair, identity: Identity) -> Guest:
        """Request OTA and connect the device."""
        guest = Guest(identity)
        self.addCleanup(guest.device.close)
        boot = await guest.device.boot(pair.ota)
        assert boot.endpoint is not None
        await guest.device.connect(boot.endpoint)
        return guest

    async def refused(self, pair: Pair, identity: Identity, token: str) -> int | None:
        """Connect. :return: the status of the refusal; None: the device is admitted."""

        def connect() -> int | None:
            headers = {"Device-Id": identity.device_id, "Client-Id": identity.client_id}
            if token:
                headers["Authorization"] = f"Bearer {token}"
            socket = RawSocket(
                pair.edge_port, firmware_head("127.0.0.1", "/xiaozhi/v1/", headers), 20
            )
            try:
                return None if socket.refused is None else int(socket.refused.status)
            finally:
                socket.close()

        found: int | None = await deferToThread(connect)
        return found


class OwnerTests(OwnersCase, TestCase):
    async def test_a_stranger_with_the_mac_gets_nothing(self) -> None:
        pair = self.services()
        identity = new_identity()
        stranger = replace(identity, client_id=STRANGER)
        guest = await self.booted(pair, identity)
        await guest.device.text("my name is Ada")
        # No attempt gets a token or replaces the owner's connection.
        for headers in ({}, {"Host": "evil.example"}, {"Client-Id": ""}, {"Serial-Number": "S"}):
            status, told = await self.ota(pair, stranger, **headers)
            self.assertEqual((status, "token" in told["websocket"]), (200, False))
            self.assertRegex(told["activation"]["code"], r"\A[0-9]{6}\Z")
        self.assertEqual((await self.ota(pair, stranger, "activate"))[0], 202)
        for token in ("", "test-token", pair.token(new_identity().device_id)):
            self.assertIn(await self.refused(pair, stranger, token), (401, 403))
        self.assertTrue(guest.device.online)
        answer = await guest.device.text("what did I say")
        self.assertEqual(answer.text, "my name is Ada")
        assert guest.device.mcp.vision is not None
        self.assertTrue(guest.device.mcp.vision.url.startswith("http://127.0.0.1:"))
        # Its messages wait for the owner alone.
        await guest.device.close()
        await self.until(lambda: "1006" in pair.im.output, "the edge has noticed")
        self.assertEqual(await self.post(pair, identity.device_id, "for the owner"), 202)
        self.assertIn(await self.refused(pair, stranger, "test-token"), (401, 403))
        again = await self.booted(pair, identity)
        await self.until(lambda: again.seen(e.Alerted), "its mail")
        self.assert_clean(pair)

    async def test_the_owner_after_erasing_the_flash_and_a_revocation(self) -> None:
        pair = self.services()
        before = new_identity()
        after = replace(before, client_id=STRANGER)
        guest = await self.booted(pair, before)
        await guest.device.text("my name is Ada")
        old = await guest.device.boot(pair.ota)
        assert old.endpoint is not None
        await guest.device.close()

        shown: list[Boot] = []
        flashed = Guest(after)
        self.addCleanup(flashed.device.close)
        booting = flashed.device.boot(pair.ota, Flavour.FIRMWARE, 60, shown.append)
        await self.until(lambda: shown, "the code is shown")
        code = shown[0].activation
        self.assertIn(code, shown[0].message)
        self.assertIn(f"waiting   {code}  {before.device_id}", await self.command(pair, "list"))
        self.assertEqual(await self.post(pair, before.device_id, "for the owner"), 202)
        self.assertIn(before.device_id, await self.command(pair, "approve", code))
        boot = await booting
        assert boot.endpoint is not None
        await flashed.device.connect(boot.endpoint)
        answer = await flashed.device.text("what did I say")
        self.assertEqual(answer.text, "my name is Ada")
        await self.until(
            lambda: any(a.message == "for the owner" for a in flashed.seen(e.Alerted)), "its mail"
        )
        self.assertEqual(await self.refused(pair, before, old.endpoint.token), 403)

        self.assertIn(before.device_id, await self.command(pair, "revoke", before.device_id))
        await self.until(lambda: flashed.seen(e.Disconnected), "the live connection is cut")
        self.assertEqual(flashed.seen(e.Disconnected)[0].code, 1008)
        # Either service may read the change first.
        told: dict[str, Any] = {}
        for _ in range(100):
            _, told = await self.ota(pair, after)
            barred = await self.refused(pair, after, boot.endpoint.token)
            if "activation" in told and barred is not None:
                break
            await deferLater(reactor, 0.1)
        self.assertIn("activation", told)
        self.assertNotIn("token", told["websocket"])
        self.assertEqual(await self.refused(pair, after, boot.endpoint.token), 403)
        self.assertEqual(await self.refused(pair, after, pair.token(after.device_id)), 403)
        self.assert_clean(pair)

    async def test_the_software_device_waits_to_be_approved(self) -> None:
        pair = self.services("http.ota.registration=approve", only="ai")
        identity = new_identity()
        program = str(Path(sysconfig.get_path("scripts")) / "xiaozhi-device")
        options = ["--device-id", identity.device_id, "--client-id", identity.client_id]
        visiting = deferToThread(
            subprocess.run,
            [sys.executable, program, "--ota", pair.ota, *options, "text", "hi"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=90,
        )
        code = ""
        for _ in range(100):
            if found := re.search(r"waiting +(\d{6})", await self.command(pair, "list")):
                code = found[1]
                break
        self.assertTrue(code, "it asks")
        await self.command(pair, "approve", code)
        ended: Any = await visiting
        self.assertEqual(ended.returncode, 0, ended.stdout)
        self.assertIn(f"not activated; code {code}", ended.stdout)
        self.assertIn("answer    All right.", ended.stdout)

    async def test_either_service_cuts_a_revoked_device(self) -> None:
        """The other one has not read the change yet, or the edge has a registry of its own."""
        late = "devices.poll_interval=60"
        for im_sets, ai_sets in (
            (SOON, (late,)),
            ((late,), SOON),
            (("devices.url=sqlite:///" + str(Path(self.mktemp()).absolute()),), SOON),
        ):
            pair = Pair((*IM_SETS, *im_sets), (*AI_SETS, *ai_sets))
            self.addCleanup(pair.end)
            pair.start()
            guest = await self.booted(pair, new_identity())
            await self.command(pair, "revoke", guest.identity.device_id)
            await self.until(partial(guest.seen, e.Disconnected), "it is cut")
            last = guest.seen(e.Disconnected)[0]
            self.assertEqual((last.code, last.reason), (1008, "revoked"), (im_sets, ai_sets))
            pair.end()

    async def test_without_authentication(self) -> None:
        """A client with an unowned id is a guest; with an owned one it is refused."""
        pair = self.services("auth.required=false")
        identity = new_identity()
        guest = await self.booted(pair, identity)
        await guest.device.text("my name is Ada")
        for client in (STRANGER, ""):
            stranger = replace(identity, client_id=client)
            self.assertEqual(await self.refused(pair, stranger, ""), 403)
            self.assertEqual(await self.refused(pair, stranger, "of-its-own"), 403)
        self.assertTrue(guest.device.online)
        await guest.device.close()
        unclaimed = new_identity().device_id
        self.assertEqual(await self.post(pair, unclaimed, "not for guests"), 202)
        socket = RawSocket(
            pair.edge_port, firmware_head("127.0.0.1", "/ws", {"Device-Id": unclaimed}), 20
        )
        self.addCleanup(socket.close)
        await deferToThread(socket.hello)
        came = await deferToThread(socket.for_a_while, 1.0)
        self.assertNotIn(b"not for guests", b"".join(frame.payload for frame in came))
        # It gets answers all the same.
        socket.text(type="listen", state="detect", text="what did I say")
        told = await deferToThread(socket.until_text, "tts", state="sentence_start")
        self.assertEqual(told["text"], "Nothing.")
        self.assert_clean(pair)
