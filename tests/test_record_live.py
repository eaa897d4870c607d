"""A conversation recorded by a real edge, and replayed against the same services."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from tests.guests import AI_SETS, IM_SETS, ServiceCase, new_identity
from tests.services import Pair
from xiaozhi.device.cli import run
from xiaozhi.device.replay import answer_log_of, read_recording


class RecordTests(ServiceCase, TestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.pair = Pair((*IM_SETS, f"record.dir={self.directory}"), AI_SETS).start()
        self.addCleanup(self.pair.end)

    async def device(self, *arguments: str) -> list[dict[str, Any]]:
        """Run ``xiaozhi-device``. :return: the lines it prints with ``--json``."""
        identity = new_identity()
        endpoint = self.pair.endpoint(identity)
        out = io.StringIO()
        own = ["--device-id", identity.device_id, "--token", endpoint.token, "--json"]
        status = await run(reactor, [*arguments, "--url", endpoint.url, *own], out)
        self.assertEqual(status, 0, out.getvalue())
        return [json.loads(line) for line in out.getvalue().splitlines()]

    def recordings(self) -> list[Path]:
        """Return the complete recordings."""
        return list(self.directory.rglob("*.jsonl"))

    async def test_recorded_and_replayed(self) -> None:
        await self.device("say", "hello")
        await self.until(self.recordings, "a recording")
        (path,) = self.recordings()
        recorded = read_recording(str(path))
        (then,) = answer_log_of(recorded).turns
        self.assertEqual((then.heard, then.sentences), ("hello", ["All right."]))
        self.assertGreater(then.packets, 3)
        self.assertEqual(recorded.missing, 0)

        lines = await self.device("replay", str(path))
        (now,) = [line["now"] for line in lines if line["event"] == "turn"]
        self.assertEqual((now["heard"], now["sentences"]), (then.heard, then.sentences))
        self.assertEqual(now["packets"], then.packets)
        self.assertIsNotNone(now["seconds"])
        self.assert_clean(self.pair)
