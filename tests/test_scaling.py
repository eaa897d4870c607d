"""Two edges on one port and one Redis: devices spread, the newest connection owns the device, posts
reach it from anywhere, and Redis and edges may fail and return.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import closing

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.fleet import ADMIN, Fleet, Visit, fleet, until
from tests.guests import complaints
from tests.rawsocket import TEXT, RawSocket
from tests.test_readme import ENGLISH, SCRIPTS, commands

REPLACED = (4001, "replaced")


class FleetCase(SynchronousTestCase):
    """Connections are closed after each test."""

    fleet: Fleet

    def device(self, device_id: str, timeout: float = 10.0) -> RawSocket:
        socket = self.fleet.device(device_id, timeout)
        self.addCleanup(socket.close)
        return socket

    def device_at(self, node: str, device_id: str) -> RawSocket:
        socket = self.fleet.device_at(node, device_id)
        self.addCleanup(socket.close)
        return socket

    def assert_clean(self) -> None:
        found = complaints(self.fleet.pair.output)
        self.assertFalse(found, found)


class SpreadTests(FleetCase):
    def setUp(self) -> None:
        self.fleet = fleet()

    def counts(self) -> list[int]:
        return [node["connections"] for node in self.fleet.nodes()]

    def test_devices_spread(self) -> None:
        until(lambda: sum(self.counts()) == 0, "nobody is there")
        sockets = [self.device(f"spread-{number}") for number in range(40)]

        def spread(counts: list[int]) -> bool:
            return sum(counts) == 40 and min(counts) > 3

        until(lambda: spread(self.counts()), "each has its share")
        for socket in sockets:
            socket.close()
        until(lambda: sum(self.counts()) == 0, "all are gone")
        self.assert_clean()

    def test_the_nodes_are_listed(self) -> None:
        for node in self.fleet.nodes():
            self.assertEqual(set(node), {"node", "address", "started", "connections"})
            self.assertTrue(node["address"].endswith(f":{self.fleet.pair.edge_port}"))

    def test_the_newest_wins_across_nodes_within_a_second(self) -> None:
        for old, new in (("edge-1", "edge-2"), ("edge-2", "edge-1")):
            device_id = f"newest-{old}"
            older = self.device_at(old, device_id)
            for _ in range(100):
                began = time.monotonic()
                newer = self.device(device_id)
                self.assertEqual(older.until_close(), REPLACED)
                self.assertLess(time.monotonic() - began, 1.0)
                older = newer
                if self.fleet.place(device_id) == new:
                    break
            self.assertEqual(newer.until_text("where"), {"type": "where"})

    def test_posted_at_one_node_arrives_at_the_other(self) -> None:
        for here, there in (("edge-1", "edge-2"), ("edge-2", "edge-1")):
            device_id = f"posted-{here}"
            socket = self.device_at(there, device_id)
            answer = self.fleet.post(here, device_id, "x")
            self.assertEqual(answer, (200, {"delivered": True, "node": there}))
            self.assertEqual(socket.until_text("x"), {"type": "x"})

    def test_posted_at_the_ai_service(self) -> None:
        socket = self.device_at("edge-2", "posted-ai")
        with closing(Visit(self.fleet.pair.http_port)) as visit:
            status, answer = visit.post("posted-ai", {"say": "Tea is ready."})
            self.assertEqual((status, answer["delivered"]), (200, True))
            self.assertEqual(visit.post("posted-ai", {"say": "x"}, token="wrong")[0], 401)
        socket.until_text("tts", state="start")
        self.assertEqual(socket.until_text("tts", state="sentence_start")["text"], "Tea is ready.")
        socket.until_text("tts", state="stop")
        self.assert_clean()

    def test_as_the_readme_says(self) -> None:
        """The command of the README, with this fleet's port and configuration."""
        (line,) = [each for each in commands(ENGLISH) if "xiaozhi-token admin" in each]
        config = self.fleet.pair.directory / "admin.yaml"
        config.write_text(f"auth: {{admin_token: {ADMIN}}}\n")
        for old, new in (
            (".venv/bin", str(SCRIPTS)),
            ("etc/im.yaml", str(config)),
            (":8000/", f":{self.fleet.pair.edge_port}/"),
            ("aa:bb:cc:dd:ee:ff", "as-read"),
        ):
            self.assertIn(old, line)
            line = line.replace(old, new)
        socket = self.device_at("edge-1", "as-read")
        done = subprocess.run(
            ["sh", "-c", line], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20
        )
        if done.returncode == 127:
            raise SkipTest("no curl here")
        self.assertEqual(json.loads(done.stdout), {"delivered": True, "node": "edge-1"})
        said = socket.until_text("tts", state="sentence_start")
        self.assertEqual(said["text"], "Tea is ready.")

    def test_kept_for_the_next_connection(self) -> None:
        for number in range(3):
            with closing(self.fleet.visit()) as visit:
                body = {"message": {"type": "x", "n": number}, "ttl": 60}
                status, answer = visit.post("kept", body)
            self.assertEqual((status, answer["delivered"], answer["kept"]), (202, False, True))
            self.assertLess(abs(answer["expires"] - time.time() - 60), 10)
        socket = self.device("kept")
        self.assertEqual([socket.until_text("x")["n"] for _ in range(3)], [0, 1, 2])
        again = self.device("kept")
        self.assertEqual([f for f in again.for_a_while(0.7) if f.opcode == TEXT], [])


class LossTests(FleetCase):
    """Tests that break things have their own fleet."""

    def setUp(self) -> None:
        self.fleet = Fleet()
        self.addCleanup(self.fleet.end)
        self.fleet.start()

    def test_redis_goes_and_comes_back(self) -> None:
        fleet = self.fleet
        sockets = {node: self.device_at(node, f"at-{node}") for node in fleet.edges}
        fleet.redis.kill()
        until(lambda: fleet.health()[1]["status"] == "degraded", "degraded")
        status, health = fleet.health()
        self.assertEqual(status, 200)
        self.assertIn("not connected", health["checks"]["presence"])
        # Connected devices continue, and posts reach them.
        for node, socket in sockets.items():
            socket.text(type="listen", state="detect", text="hi")
            socket.until_text("tts", state="stop")
            self.assertEqual(fleet.post(node, f"at-{node}", "x")[0], 200)
            socket.until_text("x")
        status, answer = fleet.post("edge-1", "at-edge-2", "x")
        self.assertEqual((status, answer["error"]), (503, "presence_unavailable"))
        # New devices are admitted; of several connections of a device the newest will stay.
        twice = [self.device("twice")]
        for _ in range(3):
            time.sleep(0.4)
            twice.append(self.device("twice"))
        fleet.redis.restart()
        until(lambda: all(self.healthy(node) for node in fleet.edges), "healthy again", 15)
        for older in twice[:-1]:
            self.assertEqual(older.until_close(), REPLACED)
        self.assertEqual(fleet.post("edge-1", "twice", "still")[0], 200)
        twice[-1].until_text("still")
        until(lambda: fleet.names() == ["edge-1", "edge-2"], "both are registered again")
        for here, there in (("edge-1", "edge-2"), ("edge-2", "edge-1")):
            answer_there = fleet.post(here, f"at-{there}", "y")
            self.assertEqual(answer_there, (200, {"delivered": True, "node": there}))
            sockets[there].until_text("y")

    def healthy(self, node: str) -> bool:
        with closing(self.fleet.visit(node)) as visit:
            return bool(visit.health()["status"] == "healthy")

    def test_an_edge_goes_and_another_hangs(self) -> None:
        fleet = self.fleet
        socket = self.device_at("edge-2", "d1")
        fleet.edges["edge-2"].kill()
        with self.assertRaises((EOFError, ConnectionResetError)):
            socket.until(lambda frame: False)
        status, answer = fleet.post("", "d1", "x")
        self.assertEqual((status, answer.get("kept")), (202, True))
        self.device("d1").until_text("x")
        self.assertEqual(fleet.place("d1"), "edge-1")

        fleet.edges["edge-2"].start()
        until(lambda: Visit(fleet.pair.edge_port).node == "edge-2", "it is back", 30)
        socket = self.device_at("edge-2", "d1")
        os.kill(fleet.edges["edge-2"].pid, signal.SIGSTOP)
        try:
            self.reconnect("d1")
        finally:
            os.kill(fleet.edges["edge-2"].pid, signal.SIGCONT)
        # Its claims are void; it is notified as soon as it reads.
        began = time.monotonic()
        self.assertEqual(socket.until_close(), REPLACED)
        self.assertLess(time.monotonic() - began, 1.0)
        self.assertEqual(fleet.place("d1"), "edge-1")

    def reconnect(self, device_id: str) -> RawSocket:
        """Retry until an edge answers: the kernel still gives the hanging one its share."""
        for _ in range(50):
            try:
                return self.device(device_id, timeout=0.5)
            except TimeoutError:
                continue
        raise AssertionError("no edge answered")
