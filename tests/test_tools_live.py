"""A tool source in one file beside the installed program, in real services."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.guests import IM_SETS, ServiceCase
from tests.services import DOUBLES, Pair, get, run_to_end
from xiaozhi.test.tools.test_tool_plugin import PLUGIN
from xiaozhi.testing.vendors.octets import whole
from xiaozhi.testing.vendors.vendor import ScriptedVendor

CALLS = [
    {"when": "weather", "name": "get_weather", "arguments": {"city": "Rome"}},
    {"when": "which", "name": "last_city"},
]


class PluginTests(ServiceCase, TestCase):
    def directory(self) -> str:
        """Write the file. :return: the directory for ``PYTHONPATH``."""
        directory = Path(self.mktemp()).resolve()
        plugins = directory / "xiaozhi" / "plugins"
        plugins.mkdir(parents=True)
        (plugins / "acme_weather.py").write_text(PLUGIN)
        return str(directory)

    async def test_a_talk(self) -> None:
        vendor = ScriptedVendor(reactor, whole({"degrees": 21}))
        port: Any = reactor.listenTCP(0, vendor, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        url = f"http://127.0.0.1:{port.getHost().port}/now"
        sets = (
            *DOUBLES,
            f"providers.llm.scripted.calls={json.dumps(CALLS)}",
            f"tools.acme_weather={{api_key: k-123, url: '{url}'}}",
        )
        pair = Pair(IM_SETS, sets)
        self.addCleanup(pair.end)
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = self.directory()
        try:
            await deferToThread(pair.start)
            guest = await self.guest(pair)
            answer = await guest.device.text("what is the weather")
            self.assertEqual(answer.text, '{"degrees": 21}')
            (request,) = vendor.requests
            self.assertEqual(request.path, "/now?q=Rome")
            self.assertEqual(request.headers["authorization"], "Bearer k-123")
            _, health = await deferToThread(get, pair.http_port, "/health")
            self.assertEqual(
                health["tools"],
                [
                    {"name": "acme_weather", "state": "ready", "reason": ""},
                    {"name": "time", "state": "ready", "reason": ""},
                ],
            )
            self.assertEqual(health["checks"]["tools"], "ok")
            # The value outlives the process.
            pair.ai.kill()
            await deferToThread(pair.ai.start)
            await deferToThread(pair.ai.wait_for)
            answer = await guest.device.text("which one")
            self.assertEqual(answer.text, "It was Rome.")
            self.assertNotIn("k-123", pair.output)
        finally:
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before

    async def test_a_missing_key_is_named(self) -> None:
        environment = {"PYTHONPATH": self.directory()}
        status, output = await deferToThread(
            lambda: run_to_end(
                "ai", f"state_dir={self.mktemp()}", "tools.acme_weather={}", environment=environment
            )
        )
        self.assertEqual(status, 1)
        self.assertIn("tools.acme_weather.api_key", output)
        self.assertNotIn("Traceback", output)
