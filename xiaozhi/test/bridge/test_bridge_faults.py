"""With any faults of streams, nothing is lost, doubled or reordered.

Both ends run on virtual time over streams that are cut, stalled, and lose, double and swap items;
the messages received by each side are compared with those sent.
"""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from xiaozhi.bridge.edge.client import BridgeClient
from xiaozhi.bridge.memory import MemoryNetwork
from xiaozhi.bridge.service.server import BridgeServer
from xiaozhi.bridge.settings import ClientSettings, ServerSettings
from xiaozhi.interfaces import IServiceEvents, IServiceLink, ISessionAcceptor
from xiaozhi.testing.contracts.bridge import Heard, opening
from xiaozhi.wire import messages as m

TARGETS = ("ai:1", "ai:2")
SESSIONS = ("s0", "s1", "s2")

_sessions = st.sampled_from(SESSIONS)
_talk = st.tuples(st.sampled_from(["up", "up audio", "down", "down audio", "pause"]), _sessions)
_streams = st.tuples(
    st.sampled_from(["cut", "lose", "double", "swap", "stall", "unstall"]),
    st.tuples(st.sampled_from(TARGETS), st.integers(0, 1), st.booleans()),
)
_time = st.tuples(st.just("pass"), st.sampled_from([0.001, 0.004, 0.3]))
_crash = st.tuples(st.sampled_from(["crash", "drain"]), st.sampled_from(TARGETS))
STEPS = st.lists(st.one_of(_talk, _talk, _talk, _streams, _time), max_size=80)
STEPS_WITH_CRASHES = st.lists(st.one_of(_talk, _talk, _time, _streams, _crash), max_size=60)


@implementer(ISessionAcceptor)
class Recorder:
    """Accepts every session; records the received messages of each, in any incarnation.

    :ivar heard: per process and session, in order.
    """

    def __init__(self, heard: dict[str, list[Any]]) -> None:
        self.heard = heard
        self.links: dict[str, Any] = {}
        self.last: dict[str, Heard] = {}

    def accept(self, opening: m.SessionOpen, link: IServiceLink) -> IServiceEvents:
        self.links[opening.session_id] = link
        heard = Leaving(link)
        heard.all = self.heard.setdefault(opening.session_id, [])
        return heard


class Leaving(Heard):
    """A session that leaves a draining process at once."""

    def __init__(self, link: IServiceLink) -> None:
        super().__init__()
        self.link = link

    def draining(self) -> None:
        self.link.close("moving", "")


class World:
    """Two AI processes, an edge with two streams to each, three sessions."""

    edge = ClientSettings(
        targets=TARGETS,
        credit=16,
        queue_audio=1000,
        audio_max_age=3600,
        resume_timeout=2.0,
        backoff_cap=0.5,
    )
    ai = ServerSettings(
        credit=16, queue_audio=1000, queue_messages=1000, resume_timeout=3600, idle_timeout=7200
    )

    def __init__(self) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock)
        self.network.window = 3
        self.network.delay = 0.0005
        self.boots = 0
        self.servers: dict[str, tuple[BridgeServer, Recorder]] = {}
        self.processes: list[dict[str, list[Any]]] = []
        for target in TARGETS:
            self.boot(target)
        self.client = BridgeClient(
            self.network, self.edge, self.clock, lambda: 0.5, "im", "im-boot"
        )
        self.client.start()
        self.clock.pump([0.001] * 60)
        self.heard = {name: Heard() for name in SESSIONS}
        self.links = {name: self.client.open(opening(name), self.heard[name]) for name in SESSIONS}
        self.clock.pump([0.001] * 5)
        self.paused: set[str] = set()
        self.number = 0
        self.up: dict[str, list[int]] = {name: [] for name in SESSIONS}
        self.down: dict[str, list[int]] = {name: [] for name in SESSIONS}

    def boot(self, target: str) -> None:
        self.boots += 1
        self.processes.append({})
        recorder = Recorder(self.processes[-1])
        boot = f"{target}-{self.boots}"
        server = BridgeServer(self.network.port(target), recorder, self.ai, self.clock, boot, boot)
        server.start()
        self.servers[target] = (server, recorder)

    def link_down(self, name: str) -> Any:
        """Return the AI side's link of a session, in any process."""
        for server, recorder in self.servers.values():
            if name in server._sessions:
                return recorder.links.get(name)
        return None

    def step(self, what: str, where: Any) -> None:
        self.number += 1
        if what in ("up", "up audio"):
            self.up[where].append(self.number)
            self.links[where].send(_message(self.number, audio=what == "up audio"))
        elif what in ("down", "down audio"):
            link = self.link_down(where)
            if link is not None:
                self.down[where].append(self.number)
                link.send(_answer(self.number, audio=what == "down audio"))
        elif what == "pause":
            (self.links[where].resume if where in self.paused else self.links[where].pause)()
            self.paused ^= {where}
        elif what == "pass":
            self.clock.pump([0.001] * int(where * 1000))
        elif what == "crash":
            self.network.cut(where, "crashed")
            self.servers[where][0].stop()
            self.boot(where)
        elif what == "drain":
            self.servers[where][0].drain(0.1)
            self.clock.pump([0.001] * 200)
            self.servers[where][0].stop()
            self.boot(where)
        else:
            target, index, far = where
            streams = self.network.streams(target)
            if index < len(streams):
                self.tamper(what, target, streams[index], far)

    def tamper(self, what: str, target: str, stream: Any, far: bool) -> None:
        if what == "cut":
            self.network.forget(stream)
            stream.cut("cut")
            stream.peer.cut("cut")
        else:
            getattr(stream.peer if far else stream, what)()

    def heal(self) -> None:
        """Remove all faults and let everything finish; a last cut reveals losses."""
        for name in self.paused:
            self.links[name].resume()
        for _ in range(2):
            for target in TARGETS:
                for stream in self.network.streams(target):
                    for end in (stream, stream.peer):
                        end.unstall()
            self.clock.pump([0.001] * 500)
            for target in TARGETS:
                self.network.cut(target)
            self.clock.pump([0.001] * 1500)

    def stop(self) -> None:
        self.client.stop()
        for server, _ in self.servers.values():
            server.stop()
        self.clock.advance(1)


def _message(number: int, audio: bool) -> Any:
    return m.Audio(b"%d" % number, turn=1) if audio else m.Chat(str(number))


def _answer(number: int, audio: bool) -> Any:
    return m.Audio(b"%d" % number, turn=1) if audio else m.Stt(str(number))


def _numbers(heard: list[Any]) -> list[int]:
    return [
        int(entry.payload if isinstance(entry, m.Audio) else entry.text)
        for entry in heard
        if not isinstance(entry, tuple)
    ]


class FaultTests(SynchronousTestCase):
    @settings(max_examples=150)
    @example(
        [
            ("cut", ("ai:1", 0, False)),
            ("up audio", "s0"),
            ("down", "s0"),
            ("lose", ("ai:1", 0, False)),  # the resumption itself
        ]
    )
    @given(STEPS)
    def test_no_message_is_lost_doubled_or_reordered(self, steps: list[tuple[str, Any]]) -> None:
        world = World()
        for step in steps:
            world.step(*step)
        world.heal()
        for name in SESSIONS:
            told = [n for process in world.processes for n in _numbers(process.get(name, []))]
            self.assertEqual(sorted(told), world.up[name], name)
            per_process = [_numbers(process.get(name, [])) for process in world.processes]
            for numbers in per_process:
                self.assertEqual(numbers, sorted(numbers), name)
            self.assertEqual(_numbers(world.heard[name].all), world.down[name], name)
        self.assertEqual(self.client_drops(world), {})
        world.stop()
        self.assertEqual(world.clock.getDelayedCalls(), [])

    @settings(max_examples=100)
    @given(STEPS_WITH_CRASHES)
    def test_with_processes_that_crash(self, steps: list[tuple[str, Any]]) -> None:
        """Messages that a crashed process received may be repeated to the next one, if it had no
        time to acknowledge them; none is repeated to one process, reordered, or lost.
        """
        world = World()
        for step in steps:
            world.step(*step)
        world.heal()
        for name in SESSIONS:
            told: set[int] = set()
            for process in world.processes:
                numbers = _numbers(process.get(name, []))
                self.assertEqual(numbers, sorted(set(numbers)), name)
                told.update(numbers)
            self.assertEqual(sorted(told), world.up[name], name)
            came = _numbers(world.heard[name].all)
            self.assertEqual(came, sorted(set(came)), name)
            self.assertLessEqual(set(came), set(world.down[name]), name)
        world.stop()

    def client_drops(self, world: World) -> dict[str, int]:
        dropped: dict[str, int] = dict(world.client.status().detail["dropped"])
        dropped.pop("duplicate", None)
        return dropped


_narrow = st.one_of(
    st.tuples(st.sampled_from(["up", "up audio", "down", "down audio"] * 3), _sessions),
    st.tuples(st.sampled_from(["close up", "close down", "pause", "burst"]), _sessions),
    st.tuples(st.just("retarget"), st.sampled_from([TARGETS, TARGETS[:1], TARGETS[1:]])),
    st.tuples(st.sampled_from(["crash", "drain", "refuse", "admit"]), st.sampled_from(TARGETS)),
    _streams,
    st.tuples(st.just("pass"), st.sampled_from([0.001, 0.004, 0.1, 0.4, 0.8])),
)


class NarrowWorld(World):
    """Short queues and timeouts; sessions are closed from both sides, targets change.

    :ivar ends: the event recorders of all sessions, at both sides.
    """

    edge = ClientSettings(
        targets=TARGETS,
        credit=16,
        queue_audio=20,
        queue_messages=4,
        audio_max_age=0.2,
        resume_timeout=0.3,
        backoff_cap=0.5,
    )
    ai = ServerSettings(
        credit=16,
        queue_audio=20,
        queue_messages=4,
        audio_max_age=0.2,
        resume_timeout=0.5,
        idle_timeout=7200,
    )

    def __init__(self) -> None:
        self.opened = 0
        self.ids = {name: name for name in SESSIONS}
        self.ends: list[Heard] = []
        super().__init__()
        self.ends.extend(self.heard.values())

    def boot(self, target: str) -> None:
        super().boot(target)
        recorder = self.servers[target][1]

        def remember(opening: m.SessionOpen, link: IServiceLink) -> IServiceEvents:
            heard = Leaving(link)
            self.ends.append(heard)
            recorder.links[opening.session_id] = link
            recorder.last[opening.session_id] = heard
            return heard

        recorder.accept = remember  # type: ignore[method-assign]

    def at_ai(self, name: str) -> tuple[Any, Heard | None]:
        for server, recorder in self.servers.values():
            if self.ids[name] in server._sessions:
                return recorder.links[self.ids[name]], recorder.last[self.ids[name]]
        return None, None

    def link_down(self, name: str) -> Any:
        return self.at_ai(name)[0]

    def step(self, what: str, where: Any) -> None:
        if what == "close up":
            self.links[where].close("done", "")
            self.open(where)
        elif what == "close down":
            link = self.link_down(where)
            if link is not None:
                link.close("done", "")
        elif what == "burst":
            for _ in range(30):
                super().step("up audio", where)
                super().step("down audio", where)
        elif what == "retarget":
            self.client.retarget(where)
        elif what == "refuse":
            self.network.port(where).acceptor = None
        elif what == "admit":
            self.network.port(where).acceptor = self.servers[where][0]
        else:
            super().step(what, where)
        for name in SESSIONS:
            if any(event[0] == "closed" for event in self.heard[name].events):
                self.open(name)

    def open(self, name: str) -> None:
        self.opened += 1
        self.ids[name] = f"{name}-{self.opened}"
        self.heard[name] = Heard()
        self.ends.append(self.heard[name])
        self.links[name] = self.client.open(opening(self.ids[name]), self.heard[name])
        self.paused.discard(name)

    def heal(self) -> None:
        self.client.retarget(TARGETS)
        for target in TARGETS:
            self.step("admit", target)
        for name in self.paused:
            self.links[name].resume()
        self.paused.clear()
        for target in TARGETS:
            for stream in self.network.streams(target):
                for end in (stream, stream.peer):
                    end.unstall()
        self.clock.pump([0.002] * 100)
        for target in TARGETS:  # for what was lost behind all
            self.network.cut(target)
        self.clock.pump([0.002] * 500)
        self.step("pass", 0.1)
        self.step("pass", 0.1)


class NarrowTests(SynchronousTestCase):
    """When not everything can be delivered, all sessions still continue in the end."""

    @settings(max_examples=40)
    @given(st.lists(_narrow, max_size=60))
    def test_everything_continues(self, steps: list[tuple[str, Any]]) -> None:
        world = NarrowWorld()
        for step in steps:
            world.step(*step)
        world.heal()
        self.check_tables(world)
        for name in SESSIONS:
            self.check_flow(world, name)
        world.stop()
        for end in world.ends:
            self.check_told(end)
        self.assertEqual(world.clock.getDelayedCalls(), [])

    def check_tables(self, world: NarrowWorld) -> None:
        self.assertEqual(set(world.client._sessions), set(world.links.values()))
        slots = [slot for target in world.client._targets.values() for slot in target._slots]
        there = {session_id for slot in slots for session_id in slot.sessions}
        self.assertEqual(there, set(world.ids.values()))
        servers = [server for server, _ in world.servers.values()]
        self.assertEqual({i for server in servers for i in server._sessions}, there)
        self.assertEqual(sum(len(server._sessions) for server in servers), len(SESSIONS))
        on = [i for server in servers for edge in server._streams for i in edge.sessions]
        self.assertEqual(sorted(on), sorted(there))
        self.assertEqual(world.client.status().detail["waiting_sessions"], 0)
        self.assertEqual([server.status().detail["orphans"] for server in servers], [0, 0])

    def check_flow(self, world: NarrowWorld, name: str) -> None:
        """Check that sound and messages pass, both ways, and no more sound than granted."""
        link, heard = world.links[name], world.heard[name]
        link_down, heard_down = world.at_ai(name)
        assert heard_down is not None
        for here, there, end, make in (
            (link, link_down, heard_down, _message),
            (link_down, link, heard, _answer),
        ):
            del end.all[:]
            for number in range(40):
                here.send(make(number, number % 10 != 0))
                world.clock.pump([0.001] * 6)  # longer than sound waits for a batch
            self.assertEqual(_numbers(end.all), list(range(40)), name)
            there.pause()
            for number in range(40):
                here.send(make(number, True))
            world.clock.pump([0.001] * 10)
            self.assertLessEqual(len(_numbers(end.all)) - 40, 16, name)
            there.resume()
            world.clock.pump([0.001] * 300)

    def check_told(self, end: Heard) -> None:
        """Check that holds and releases alternate, and that nothing follows the end."""
        course = [event[0] for event in end.events if event[0] in ("pause", "resume")]
        self.assertEqual(course, (["pause", "resume"] * len(course))[: len(course)])
        closed = [isinstance(entry, tuple) and entry[0] == "closed" for entry in end.all]
        self.assertNotIn(True, closed[:-1])
