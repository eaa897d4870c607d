"""Metrics and logs of both services about a conversation."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.guests import AI_SETS, IM_SETS, ServiceCase
from tests.rawsocket import BINARY
from tests.services import DOWN_WITHIN, ROOT, UP_WITHIN, Pair, assignments, twistd
from xiaozhi.device import events as e
from xiaozhi.runtime.listening import free_port
from xiaozhi.testing.house import SPEECH
from xiaozhi.testing.metrics import Scraped
from xiaozhi.wire.messages import ListenMode

LOGS = ("log.format=json", "log.level=debug")


def page(port: int, path: str = "/metrics") -> tuple[int, str, str]:
    """Return status, content type and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        kind = response.headers.get("content-type", "")
        return response.status, kind, response.read().decode()
    finally:
        connection.close()


def scrape(port: int) -> Scraped:
    """Return a service's metrics."""
    status, kind, body = page(port)
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8"), (status, kind)
    return Scraped(body)


def records(output: str) -> list[dict[str, Any]]:
    """Return the lines of a log; each must be a JSON object."""
    return [json.loads(line) for line in output.splitlines()]


class ConversationTests(ServiceCase, TestCase):
    """One pair for all tests, with JSON logs and a line for each message."""

    def setUp(self) -> None:
        self.pair = Pair((*IM_SETS, *LOGS, "log.messages=true"), (*AI_SETS, *LOGS))
        self.addCleanup(self.pair.end)
        self.pair.start()

    async def test_metrics_and_logs_of_a_conversation(self) -> None:
        pair = self.pair
        guest = await self.guest(pair, mode=ListenMode.MANUAL)
        answer = await guest.device.say(SPEECH)
        self.assertEqual(answer.heard, "hello")
        await guest.device.text("not so loud")
        played = len(guest.seen(e.PacketPlayed))
        await self.until(lambda: self.turns() == 2, "both turns have ended")
        im = await deferToThread(scrape, pair.edge_port)
        ai = await deferToThread(scrape, pair.http_port)

        # Both services counted the same packets, and as many as the device received.
        up = im("xiaozhi_im_frames_total", direction="up")
        self.assertEqual(up, ai("xiaozhi_ai_frames_total", direction="up"))
        self.assertGreaterEqual(up, 15)
        self.assertEqual(im("xiaozhi_im_frames_total", direction="down"), played)
        self.assertEqual(ai("xiaozhi_ai_frames_total", direction="down"), played)
        self.assertEqual(im("xiaozhi_im_connections"), 1)
        self.assertEqual(im("xiaozhi_im_handshakes_total", result="accepted"), 1)
        for direction, kind, count in (
            ("up", "hello", 1),
            ("down", "hello", 1),
            ("down", "stt", 2),
        ):
            labels = {"direction": direction, "type": kind}
            self.assertEqual(im("xiaozhi_im_messages_total", **labels), count, kind)
        self.assertEqual(im.total("xiaozhi_im_dropped_total"), 0)

        # The bridge, from both ends.
        self.assertEqual(im("xiaozhi_im_bridge_up"), 1)
        target = {"target": f"127.0.0.1:{pair.grpc_port}"}
        self.assertEqual(im("xiaozhi_im_bridge_target_streams", **target), 2)
        self.assertEqual(im("xiaozhi_im_bridge_target_sessions", **target), 1)
        self.assertEqual(ai("xiaozhi_ai_bridge_streams"), 2)
        self.assertEqual(ai("xiaozhi_ai_sessions"), 1)
        for direction in ("up", "down"):
            for metrics, name in ((im, "im"), (ai, "ai")):
                metric = f"xiaozhi_{name}_bridge_crossing_seconds"
                crossed = metrics(f"{metric}_count", direction=direction)
                self.assertGreater(crossed, 0)
                self.assertLess(metrics(f"{metric}_sum", direction=direction) / crossed, 1)

        # The turns.
        turns = "xiaozhi_ai_turns_total"
        self.assertEqual(ai(turns, begun="spoken", result="answered"), 1)
        self.assertEqual(ai(turns, begun="typed", result="answered"), 1)
        stage = "xiaozhi_ai_turn_stage_seconds_count"
        self.assertEqual(ai(stage, stage="recognise", provider="scripted"), 1)
        self.assertEqual(ai(stage, stage="first_token", provider="scripted"), 3)
        self.assertEqual(ai("xiaozhi_ai_turn_response_seconds_count", begun="spoken"), 1)
        self.assertEqual(ai("xiaozhi_ai_tool_calls_total", result="done"), 1)
        self.assertEqual(ai.total("xiaozhi_ai_provider_errors_total"), 0)

        # The session log.
        await self.until(self.is_written, "the log is written")

        await self.assert_one_id(guest.device.machine.session_id)

    async def test_each_packet_is_counted(self) -> None:
        socket = self.raw(self.pair, "aa:00:00:00:00:77")
        socket.hello()
        socket.text(type="listen", state="start", mode="manual")
        packet = bytes([0b01011_000]) + bytes(60)
        socket.send(BINARY, packet, 41)
        socket.text(type="listen", state="stop")
        # They contain no voice and get no answer; typed words are answered after them.
        socket.text(type="listen", state="detect", text="hello")
        socket.until_text("stt")
        im, ai = scrape(self.pair.edge_port), scrape(self.pair.http_port)
        self.assertEqual(im("xiaozhi_im_frames_total", direction="up"), 41)
        self.assertEqual(im("xiaozhi_im_frame_bytes_total", direction="up"), 41 * len(packet))
        self.assertEqual(ai("xiaozhi_ai_frames_total", direction="up"), 41)
        self.assertEqual(im("xiaozhi_im_messages_total", direction="up", type="listen"), 3)
        self.assertEqual(ai("xiaozhi_ai_messages_total", direction="up", type="listen"), 3)
        await self.until(
            lambda: any(r.get("frames") == 41 for r in records(self.pair.im.output)), "it is logged"
        )

    def turns(self) -> float:
        return scrape(self.pair.http_port).total("xiaozhi_ai_turns_total")

    def is_written(self) -> bool:
        im = scrape(self.pair.edge_port)
        return im("xiaozhi_im_store_up") == 1 and im("xiaozhi_im_store_pending") == 0

    async def assert_one_id(self, session_id: str) -> None:
        """Check that a message has one id in both logs, and that every line is JSON."""
        im, ai = records(self.pair.im.output), records(self.pair.ai.output)
        for record in im + ai:
            self.assertTrue({"time", "level", "logger", "message"} <= set(record), record)
        told = [r for r in im if "from the device" in r["message"]]
        self.assertEqual(told[0]["request_id"], f"{session_id}-0")
        self.assertEqual({r["session_id"] for r in told}, {session_id})
        ids = {r["request_id"]: r["kind"] for r in told}
        answered = [r for r in ai if r.get("session_id") == session_id and "request_id" in r]
        turns = {r["request_id"] for r in answered if r.get("result") == "answered"}
        self.assertEqual(len(turns), 2, answered)
        self.assertEqual({ids[turn] for turn in turns}, {"listen"})


class AccessTests(ServiceCase, TestCase):
    """Addresses of the page."""

    def pair(self, *sets: str) -> Pair:
        pair = Pair((*IM_SETS, *sets), (*AI_SETS,))
        self.addCleanup(pair.end)
        return pair.start()

    def test_a_port_of_its_own(self) -> None:
        own = free_port()
        pair = self.pair(f"metrics.listen=127.0.0.1:{own}")
        self.assertEqual(page(pair.edge_port)[0], 404)
        self.assertEqual(page(own, "/health")[0], 404)
        self.assertEqual(scrape(own)("xiaozhi_im_connections"), 0)

    def test_none(self) -> None:
        pair = self.pair("metrics.enabled=false")
        self.assertEqual(page(pair.edge_port)[0], 404)
        self.assertEqual(page(pair.edge_port, "/health")[0], 200)


class DaemonTests(TestCase):
    """The log of a daemon is JSON, too."""

    def test_daemon(self) -> None:
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        port = free_port()
        log, pid_file = directory / "im.log", directory / "im.pid"
        sets = (
            f"state_dir={directory / 'state'}",
            f"listen={{host: 127.0.0.1, port: {port}}}",
            "log.format=json",
        )
        command = twistd(f"--pidfile={pid_file}", f"--logfile={log}", "xiaozhi-im")
        command += ["--config", "etc/im.yaml", *assignments(sets)]
        subprocess.run(command, cwd=ROOT, check=True, timeout=UP_WITHIN, stdin=subprocess.DEVNULL)
        pid = int(pid_file.read_text())
        try:
            self.assertEqual(page(port, "/alive")[0], 200)
            os.kill(pid, 15)
            self.until_gone(pid)
        finally:
            if self.alive(pid):
                os.kill(pid, 9)
        messages = [record["message"] for record in records(log.read_text("utf-8"))]
        self.assertIn("running", messages)
        self.assertIn("Server Shut Down.", messages)

    def alive(self, pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    def until_gone(self, pid: int) -> None:
        until = time.monotonic() + DOWN_WITHIN
        while self.alive(pid):
            self.assertLess(time.monotonic(), until, "it does not stop")
            time.sleep(0.05)
