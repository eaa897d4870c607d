"""Two edges on one port and one Redis, with an AI service, as real processes."""

from __future__ import annotations

import functools
import http.client
import json
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from tests.rawsocket import RawSocket, firmware_head
from tests.servers import RedisServer
from tests.services import DOUBLES, Pair, ServiceProcess, end_shared, get

ADMIN = "only-for-these-tests"
SHARED = (
    "listen.reuse_port=true",
    f"auth.admin_token={ADMIN}",
    "link.close_timeout=0.2",
    "presence.timeout=1",
    "presence.heartbeat_interval=0.2",
    "inbox.lease=2",
)


def until(true: Callable[[], bool], what: str, within: float = 10.0) -> None:
    """Wait until a condition holds, ignoring connection errors. Blocks."""
    began = time.monotonic()
    while True:
        try:
            if true():
                return
        except (OSError, http.client.HTTPException):
            pass
        if time.monotonic() - began > within:
            raise AssertionError(f"not within {within} s: {what}")
        time.sleep(0.02)


class Visit:
    """A persistent connection to one of the edges.

    :ivar node: the edge's name.
    """

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self.node = str(self.health().get("node", ""))

    def health(self) -> dict[str, Any]:
        """Return the edge's health."""
        return self.ask("GET", "/health")[1]

    def ask(
        self, method: str, path: str, body: object = None, token: str = ADMIN
    ) -> tuple[int, dict[str, Any]]:
        """Send a request. :return: the status, and the body decoded as JSON."""
        self._connection.request(
            method,
            path,
            None if body is None else json.dumps(body),
            {"Authorization": f"Bearer {token}"},
        )
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def post(self, device_id: str, body: object, **more: Any) -> tuple[int, dict[str, Any]]:
        """Post to a device."""
        return self.ask("POST", f"/api/devices/{device_id}/messages", body, **more)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class Fleet:
    """The edges ``edge-1`` and ``edge-2``. All calls block.

    :ivar edges: by name.
    """

    def __init__(self) -> None:
        self.redis = RedisServer()
        url = f"presence.url={self.redis.url}"
        self.pair = pair = Pair(
            (*SHARED, url, "node=edge-1"), (*DOUBLES, url, f"auth.admin_token={ADMIN}")
        )
        other = (*SHARED, url, "node=edge-2", f"store.url=sqlite:///{pair.state}/2.db")
        second = pair.edge(pair.edge_port, *other)
        second.log = pair.directory / "im-2.log"
        pair._edges.append(second)
        self.edges: dict[str, ServiceProcess] = {"edge-1": pair.im, "edge-2": second}

    def start(self) -> Fleet:
        """Start all processes and wait until the edges know each other."""
        self.redis.start()
        self.pair.start()
        self.edges["edge-2"].start()
        until(lambda: self.names() == ["edge-1", "edge-2"], "both know of each other", 30)
        return self

    def end(self) -> None:
        """End all processes and remove their files."""
        self.pair.end()
        self.redis.stop()

    def health(self) -> tuple[int, dict[str, Any]]:
        """Return status and body of one edge's health."""
        return get(self.pair.edge_port, "/health")

    def nodes(self) -> list[dict[str, Any]]:
        """Return the registry as one of the edges sees it."""
        nodes: list[dict[str, Any]] = self.health()[1]["nodes"]
        return nodes

    def names(self) -> list[str]:
        """Return the names of the registered edges."""
        return [node["node"] for node in self.nodes()]

    def visit(self, node: str = "") -> Visit:
        """Connect to an edge. With one port the kernel chooses, so retry."""
        for _ in range(100):
            visit = Visit(self.pair.edge_port)
            if node in ("", visit.node):
                return visit
            visit.close()
        raise AssertionError(f"never reached {node}")

    def post(self, at: str, device_id: str, message: str) -> tuple[int, dict[str, Any]]:
        """Post a message of this type at an edge."""
        with closing(self.visit(at)) as visit:
            return visit.post(device_id, {"message": {"type": message}})

    def device(self, device_id: str, timeout: float = 10.0) -> RawSocket:
        """Connect a device to any edge and say hello."""
        headers = {"Authorization": f"Bearer {self.pair.token(device_id)}", "Device-Id": device_id}
        head = firmware_head("127.0.0.1", "/xiaozhi/v1/", headers)
        socket = RawSocket(self.pair.edge_port, head, timeout)
        assert socket.refused is None, socket.refused
        socket.hello()
        return socket

    def place(self, device_id: str) -> str:
        """Return the edge of a device, from the answer to a post."""
        for _ in range(100):
            # Just after its hello the other edge may not know the device yet.
            status, answer = self.post("", device_id, "where")
            if status == 200:
                return str(answer["node"])
        raise AssertionError(answer)

    def device_at(self, node: str, device_id: str) -> RawSocket:
        """Connect a device to this edge, retrying until the kernel chooses it."""
        for _ in range(100):
            socket = self.device(device_id)
            if self.place(device_id) == node:
                socket.until_text("where")
                return socket
            socket.close()
        raise AssertionError(f"never got to {node}")


@functools.cache
def fleet() -> Fleet:
    """Return the fleet that all tests share; they leave it as they found it."""
    end_shared()
    return Fleet().start()
