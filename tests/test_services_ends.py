"""Services that stop, crash and come back."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from contextlib import closing

from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.guests import AI_SETS, IM_SETS, Guest, ServiceCase, complaints
from tests.rawsocket import BINARY
from tests.services import (
    ROOT,
    Pair,
    ServiceProcess,
    assignments,
    get,
    twistd,
)
from xiaozhi.device import events as e
from xiaozhi.testing.house import SPEECH


class LossTests(ServiceCase, TestCase):
    """The AI service dies and returns."""

    async def test_kill_and_restart(self) -> None:
        sets = ("bridge.backoff_base=0.05", "link.outage_patience=0.2", *IM_SETS)
        slow = ("providers.llm.scripted.token_delay=0.3", *AI_SETS)
        pair = await deferToThread(lambda: Pair(sets, slow).start())
        self.addCleanup(pair.end)
        talking = await self.guest(pair)
        idle = await self.guest(pair)
        answer = talking.device.text("a story")
        await self.until(lambda: len(talking.seen(e.PacketPlayed)) > 5, "the story begins")
        await deferToThread(pair.ai.kill)
        told = await answer
        self.assertEqual((told.tts_starts, told.tts_stops), (1, 1), "§9.2, also now")
        # After the part of the answer that the edge had.
        await self.until(lambda: talking.seen(e.Alerted), "the device is alerted", 30)
        health = await deferToThread(pair.im.wait_for, "/health", 503)
        self.assertEqual(health["status"], "unhealthy")
        self.assertNotEqual(health["grpc_status"], "connected")
        self.assertEqual(health["connections"], 2)
        for path in ("/ready", "/alive"):
            self.assertEqual((await deferToThread(get, pair.edge_port, path))[0], 200)
        # Asked during the outage: the device gets an alert, and no answer later.
        unanswered = talking.device.text("are you there").addErrback(lambda _: None)
        await self.until(lambda: len(talking.seen(e.Alerted)) == 2, "a question is alerted")
        unanswered.cancel()
        newcomer = await self.guest(pair)
        pair.ai.start()
        await deferToThread(pair.im.wait_for, "/health", 200)
        guests = (talking, idle, newcomer)
        for said in await gatherResults([guest.device.say(SPEECH) for guest in guests]):
            self.assertEqual((said.heard, said.text), ("hello", "All right."))
        self.assertEqual([guest.seen(e.Disconnected) for guest in guests], [[], [], []])
        self.assertEqual(len(talking.seen(e.Alerted)), 2)
        self.assertNotIn("are you there", [heard.text for heard in talking.seen(e.Heard)])
        self.assertEqual(idle.seen(e.Alerted), [], "it asked for nothing")
        self.assertEqual(complaints(pair.im.output), "")
        await self.assert_events(pair, talking.device.machine.session_id)

    async def test_a_talk_continues_after_kill_9(self) -> None:
        """The next process, and another edge, know the dialogue."""
        sets = ("bridge.backoff_base=0.05", *IM_SETS)
        recall = ("providers.llm.scripted.recall=what did I say", *AI_SETS)
        pair = await deferToThread(lambda: Pair(sets, recall).start())
        self.addCleanup(pair.end)
        guest = await self.guest(pair)
        await guest.device.text("my name is Ada")
        # In the middle of an answer: the question is known, but little of the answer.
        played = len(guest.seen(e.PacketPlayed))
        answer = guest.device.text("a fable")
        await self.until(lambda: len(guest.seen(e.PacketPlayed)) > played + 5, "it begins")
        await deferToThread(pair.ai.kill)
        await answer
        pair.ai.start()
        await deferToThread(pair.im.wait_for, "/health", 200)
        self.assertEqual((await guest.device.text("what did I say")).text, "a fable")
        await guest.device.text("I like bread")
        for service in (pair.ai, pair.im):
            await deferToThread(service.kill)
            service.start()
        await deferToThread(pair.im.wait_for, "/health", 200)
        again = Guest(guest.identity)
        self.addCleanup(again.device.close)
        await again.device.connect(pair.endpoint(guest.identity))
        self.assertEqual((await again.device.text("what did I say")).text, "I like bread")
        # An answer is recorded when it has been played, and written later.
        written = {"pending": 0, "dropped": 0, "trouble": ""}
        for _ in range(50):
            health = await deferToThread(pair.ai.wait_for, "/health", 200)
            if health["history"] == written:
                break
            await deferToThread(time.sleep, 0.1)
        self.assertEqual(health["history"], written)
        self.assertEqual(os.stat(pair.state / "ai.sqlite3").st_mode & 0o777, 0o600)
        self.assertNotIn("Ada", pair.output)

    async def assert_events(self, pair: Pair, session_id: str) -> None:
        def events() -> list[str]:
            with closing(sqlite3.connect(pair.state / "im.sqlite3")) as db:
                found = db.execute(
                    "SELECT event_type FROM connection_events WHERE session_id = ?"
                    " ORDER BY created_at",
                    (session_id,),
                )
                return [kind for (kind,) in found]

        told = ["outage_told", "outage_told"]
        expected = ["connected", "hello", "interrupted", *told, "resumed"]
        await self.until(lambda: events() == expected, "interrupted and resumed in the log")


class StopTests(ServiceCase):
    """SIGTERM, and ``twistd`` as users type it."""

    def test_sigterm(self) -> None:
        pair = Pair(IM_SETS, AI_SETS)
        self.addCleanup(pair.end)
        pair.start()
        quiet = self.raw(pair, "aa:00:00:00:01:01")
        speaking = self.raw(pair, "aa:00:00:00:01:02")
        session_ids = [quiet.hello(), speaking.hello()]
        speaking.text(type="listen", state="detect", text="hi")
        speaking.until(lambda frame: frame.opcode == BINARY)
        os.kill(pair.im.pid, signal.SIGTERM)
        self.assertEqual(quiet.until_close(), (1001, "going_away"))
        # A device in an answer hears the sentence to its end.
        speaking.until_text("tts", state="stop")
        self.assertEqual(speaking.until_close(), (1001, "going_away"))
        self.assertEqual(pair.im.ended(), 0)
        self.assertEqual(pair.ai.stop(), 0)
        for service in (pair.im, pair.ai):
            self.assertEqual(service.children(), [])
            self.assertIn("Server Shut Down", service.output)
        self.assert_clean(pair)
        with closing(sqlite3.connect(pair.state / "im.sqlite3")) as db:
            for session_id in session_ids:
                found = db.execute(
                    "SELECT status, event_type, json_extract(event_data, '$.code')"
                    " FROM device_sessions JOIN connection_events USING (session_id)"
                    " WHERE session_id = ? AND event_type = 'closed'",
                    (session_id,),
                ).fetchall()
                self.assertEqual(found, [("disconnected", "closed", 1001)])

    def test_daemons(self) -> None:
        """``twistd xiaozhi-im --config etc/im.yaml``, with pid and log file."""
        pair = Pair(IM_SETS, AI_SETS)
        self.addCleanup(pair.end)
        pids = {service: self.daemon(pair, service) for service in (pair.ai, pair.im)}
        pair.im.wait_for()
        device = self.raw(pair, "aa:00:00:00:01:04")
        device.hello()
        device.text(type="listen", state="detect", text="hi")
        device.until_text("tts", state="stop")
        # The AI service stops first; the device stays connected.
        self.end_by_hand(pair, pair.ai, pids[pair.ai])
        pair.im.wait_for("/health", 503)
        device.text(type="ping")
        device.until_text("pong")
        self.end_by_hand(pair, pair.im, pids[pair.im])
        self.assertEqual(device.until_close(), (1001, "going_away"))

    def end_by_hand(self, pair: Pair, service: ServiceProcess, pid: int) -> None:
        """Stop the daemon by the pid in its file; only the log remains."""
        os.kill(pid, signal.SIGTERM)
        self.wait_gone(pid)
        log = (pair.directory / f"{service.name}.twistd.log").read_text()
        self.assertIn("Server Shut Down", log)
        found = complaints(log)
        self.assertFalse(found, found)
        self.assertFalse((pair.directory / f"{service.name}.pid").exists())

    def daemon(self, pair: Pair, service: ServiceProcess) -> int:
        """Start one as a daemon. :return: its pid."""
        pid_file = pair.directory / f"{service.name}.pid"
        log_file = pair.directory / f"{service.name}.twistd.log"
        command = twistd(f"--pidfile={pid_file}", f"--logfile={log_file}")
        command += [f"xiaozhi-{service.name}", "--config", f"etc/{service.name}.yaml"]
        started = subprocess.run(
            [*command, *assignments(service.sets)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
        )
        self.assertEqual((started.returncode, started.stdout, started.stderr), (0, "", ""))
        pid = int(pid_file.read_text())
        self.addCleanup(self.end_daemon, pid)
        # The command returns when the daemon serves.
        self.assertEqual(get(service.port, "/alive" if service.name == "im" else "/health")[0], 200)
        return pid

    def wait_gone(self, pid: int) -> None:
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.02)
        self.fail(f"process {pid} is still there")

    def end_daemon(self, pid: int) -> None:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.fail(f"daemon {pid} had to be killed")
