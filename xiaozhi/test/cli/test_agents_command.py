"""``xiaozhi-agents``: checks, lists and shows the agents of a file."""

from __future__ import annotations

import io
import json
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.cli.agents import ConfigFile, run

FILE = """
state_dir: {state}
selected: {{asr: scripted, llm: scripted, tts: tone, vlllm: scripted, vad: energy}}
http: {{listen: {{host: "::", port: 9123}}}}
devices: {{agents: {{"aa:*": chef}}}}
agents:
  chef: {{name: Chef, prompt: You cook., listen: {{end_silence: 0.9}}}}
"""


class CommandTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.path.write_text(FILE.format(state=self.mktemp()))

    def run_with(self, *arguments: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        status = run([*arguments, "--config", str(self.path)], out, err)
        return status, out.getvalue(), err.getvalue()

    def test_check(self) -> None:
        self.assertEqual(self.run_with("check"), (0, f"{self.path}: 2 agents, no error\n", ""))

    def test_list(self) -> None:
        status, out, _ = self.run_with("list")
        self.assertEqual(status, 0)
        self.assertEqual(
            out.splitlines(),
            ["default  -  scripted  every other device", "chef  Chef  scripted  aa:*"],
        )

    def test_show(self) -> None:
        status, out, _ = self.run_with("show", "chef")
        shown = json.loads(out)
        self.assertEqual((status, shown["id"], shown["name"]), (0, "chef", "Chef"))
        self.assertEqual(shown["session"]["listen"]["end_silence"], 0.9)
        self.assertEqual(shown["providers"]["llm"], ["scripted"])

    def test_errors(self) -> None:
        for arguments, message in (
            (("show", "cook"), "there is no agent cook; there are chef, default"),
            (("check", "--set", "agents.chef.lisen=1"), "agents.chef.lisen: unknown key"),
            (("check", "--set", "agents=7"), "agents: expected a mapping"),
            (("check", "--set", "devices.agents={x: nobody}"), "devices.agents.x: there is no"),
            (("check", "--set", "selected.llm=gone"), "selected.llm: there is no llm provider"),
            (("reload", "--url", "file:///etc/passwd"), "expected an http or https address"),
            (("reload", "--url", "http://127.0.0.1:1"), "http://127.0.0.1:1/api/agents/reload: "),
        ):
            status, out, err = self.run_with(*arguments)
            self.assertEqual((status, out), (1, ""), arguments)
            self.assertTrue(err.startswith("xiaozhi-agents: "), err)
            self.assertIn(message, err)
        self.path.unlink()
        self.assertIn("there is no such file", self.run_with("check")[2])

    def test_where_the_service_is(self) -> None:
        for listen, address in (
            ({"host": "::", "port": 9123}, "http://127.0.0.1:9123"),
            ({"host": "192.0.2.7"}, "http://192.0.2.7:8080"),
            ({"host": "::1"}, "http://[::1]:8080"),
            ({}, "http://127.0.0.1:8080"),
        ):
            self.assertEqual(ConfigFile("", {"http": {"listen": listen}}).address(), address)
        self.assertEqual(ConfigFile("", {}).address(), "http://127.0.0.1:8080")
