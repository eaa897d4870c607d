"""Services under fault injection: AI processes, edges, and faulty network paths between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.faults.crowd import BRAIN_SETS
from tests.faults.proxy import Proxy
from tests.services import Pair, ServiceProcess
from xiaozhi.device.identity import Identity
from xiaozhi.device.network.ota import DeviceEndpoint
from xiaozhi.runtime.listening import free_port

# All timeouts of the services are short to keep the tests short; no test depends on their values.
EDGE_SETS = (
    "store.content=true",
    "store.flush_interval=0.05",
    "link.close_timeout=0.2",
    "link.outage_patience=1.0",
    "bridge.backoff_base=0.05",
    "bridge.backoff_cap=0.5",
    "bridge.connect_timeout=2.0",
    "drain_timeout=10.0",
)


class Plant(Pair):
    """Edges and AI processes.

    :ivar brains: the AI processes; the first is also ``ai``.
    :ivar edges: the edges; the first is also ``im``.
    :ivar ways: a proxy before each AI process, if there are any; started and stopped on the
        reactor's thread.
    """

    def __init__(
        self,
        *im_sets: str,
        ai_sets: Sequence[str] = (),
        brains: int = 1,
        proxied: bool = False,
        reactor: Any = None,
    ) -> None:
        """:param reactor: needed for proxies."""
        super().__init__((), (*BRAIN_SETS, *ai_sets))
        self.brains = [self.ai]
        for number in range(1, brains):
            self.brains.append(self._another_brain(number, ai_sets))
        ports = [brain_port(brain) for brain in self.brains]
        self.ways: list[Proxy] = []
        if proxied:
            self.ways = [Proxy(reactor, port) for port in ports]
            for way in self.ways:
                way.start()
            ports = [way.port for way in self.ways]
        targets = ", ".join(f"'127.0.0.1:{port}'" for port in ports)
        self.im.sets += (f"bridge.targets=[{targets}]", *EDGE_SETS, *im_sets)

    @property
    def edges(self) -> list[ServiceProcess]:
        return self._edges

    def _another_brain(self, number: int, ai_sets: Sequence[str]) -> ServiceProcess:
        http, grpc = free_port(), free_port()
        sets = [
            *self.ai.sets,
            *ai_sets,
            f"http.listen={{host: 127.0.0.1, port: {http}}}",
            f"grpc.listen=127.0.0.1:{grpc}",
        ]
        return ServiceProcess("ai", http, sets, self.directory / f"ai-{number}.log")

    def another_edge(self) -> ServiceProcess:
        """Make an edge like the first, on a port of its own; not started."""
        port = free_port()
        sets = (*self.im.sets, f"listen={{host: 127.0.0.1, port: {port}}}")
        edge = ServiceProcess("im", port, sets, self.directory / f"im-{port}.log")
        self._edges.append(edge)
        return edge

    def start(self) -> Plant:
        try:
            for service in (*self.brains, *self._edges):
                service.start()
            for service in (*self.brains, *self._edges):
                service.wait_for()
        except BaseException:
            self.end()
            raise
        return self

    def end(self) -> None:
        for brain in self.brains:
            brain.end()
        super().end()

    def endpoints(self, identity: Identity) -> list[DeviceEndpoint]:
        """The address of each edge."""
        token = self.token(identity.device_id)
        return [
            DeviceEndpoint(f"ws://127.0.0.1:{edge.port}/xiaozhi/v1/", token, 1)
            for edge in self._edges
        ]

    @property
    def output(self) -> str:
        return "".join(service.output for service in (*self._edges, *self.brains))


def brain_port(brain: ServiceProcess) -> int:
    """Return the port of the bridge."""
    (*_, listen) = [each for each in brain.sets if each.startswith("grpc.listen=")]
    return int(listen.rpartition(":")[2])
