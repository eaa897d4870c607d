"""Two devices with two agents on one AI process, and agents that change while they talk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import yaml
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.guests import IM_SETS, Guest, ServiceCase, new_identity
from tests.services import DOUBLES, ROOT, Pair

CHEF = {
    "prompt": "You are a chef.",
    "providers": {"llm": "scripted/chef", "tts": "tone/high"},
    "tools": {"deny": ["get_time"]},
    "greeting": "Bon appetit.",
}
POET = {
    "prompt": "You are a poet.",
    "providers": {"llm": "scripted/poet"},
    "greeting": "A rhyme?",
}
CALL = [{"when": "clock", "name": "get_time"}]
PROVIDERS = {
    "llm": {
        "scripted/chef": {"answers": ["Soup."], "calls": CALL},
        "scripted/poet": {"answers": ["A rose."], "calls": CALL},
    },
    "tts": {"tone/high": {"milliseconds": 60}},
}


class AgentTests(ServiceCase, TestCase):
    timeout = 120

    def begin(self) -> None:
        self.chef, self.poet = new_identity(), new_identity()
        self.pair = Pair(IM_SETS, DOUBLES)
        self.addCleanup(self.pair.end)
        self.config = self.pair.directory / "ai.yaml"
        self.pair.ai.config = str(self.config)
        self.write(chef=CHEF, poet=POET)
        self.pair.start()

    def write(self, **agents: Any) -> None:
        content = {
            "state_dir": str(self.pair.state),
            "http": {"listen": {"host": "127.0.0.1", "port": self.pair.http_port}},
            "selected": dict(item.split("=") for item in _selected()),
            "providers": PROVIDERS,
            "agents": agents,
            "devices": {
                "agents": {self.chef.device_id: "chef", self.poet.device_id: "poet"},
            },
        }
        self.config.write_text(yaml.safe_dump(content))

    async def visitor(self, identity: Any) -> Guest:
        guest = Guest(identity)
        await guest.device.connect(self.pair.endpoint(identity))
        self.addCleanup(guest.device.close)
        return guest

    async def answer(self, guest: Guest, words: str) -> Any:
        return await guest.device.text(words)

    async def command(self, *arguments: str) -> tuple[int, str, str]:
        """Run ``xiaozhi-agents`` beside the running service."""
        command = [sys.executable, str(Path(sysconfig.get_path("scripts")) / "xiaozhi-agents")]
        ended: Any = await deferToThread(
            subprocess.run,
            [*command, *arguments, "--config", str(self.config)],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        return ended.returncode, ended.stdout, ended.stderr

    async def until_logged(self, words: str, count: int = 1) -> None:
        while self.pair.ai.output.count(words) < count:
            await deferLater(reactor, 0.05)

    async def test_two_talks(self) -> None:
        self.begin()
        chef, poet = await self.visitor(self.chef), await self.visitor(self.poet)
        soup, rose = await self.answer(chef, "hi"), await self.answer(poet, "hi")
        self.assertEqual((soup.text, rose.text), ("Soup.", "A rose."))
        # Its voice takes 60 ms for a letter, the other one 20.
        self.assertGreater(soup.audio_ms, rose.audio_ms)
        # The chef has no tool for the time.
        refused, told = await self.answer(chef, "clock"), await self.answer(poet, "clock")
        self.assertNotEqual(refused.text, told.text)

    async def test_a_change_during_a_talk(self) -> None:
        self.begin()
        chef, poet = await self.visitor(self.chef), await self.visitor(self.poet)
        self.assertEqual((await self.answer(chef, "hi")).text, "Soup.")
        self.write(chef={**CHEF, "providers": {"llm": "scripted/poet"}}, poet=POET)
        os.kill(self.pair.ai.pid, signal.SIGHUP)
        await self.until_logged("agents were reloaded: chef")
        self.assertEqual((await self.answer(chef, "hi")).text, "A rose.")
        # The command does the same and prints what changed.
        self.write(chef=CHEF, poet={**POET, "language": "fr"})
        status, out, err = await self.command("reload")
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(out, "changed: chef, poet\n")
        self.assertEqual((await self.answer(chef, "hi")).text, "Soup.")
        self.assertEqual((await self.answer(poet, "hi")).text, "A rose.")

    async def test_a_faulty_file_changes_nothing(self) -> None:
        self.begin()
        chef = await self.visitor(self.chef)
        self.write(chef={**CHEF, "lisen": {}}, poet=POET)
        os.kill(self.pair.ai.pid, signal.SIGHUP)
        await self.until_logged("agents were not reloaded")
        self.assertIn("agents.chef.lisen: unknown key; did you mean listen?", self.pair.ai.output)
        self.assertEqual((await self.answer(chef, "hi")).text, "Soup.")
        status, out, err = await self.command("reload")
        self.assertEqual((status, out), (1, ""))
        self.assertIn("agents.chef.lisen: unknown key", err)
        # The edge has nothing to reload and continues.
        os.kill(self.pair.im.pid, signal.SIGHUP)
        self.assertEqual((await self.answer(chef, "hi")).text, "Soup.")

    async def test_other_sections_need_a_restart(self) -> None:
        self.begin()
        content = yaml.safe_load(self.config.read_text())
        self.config.write_text(yaml.safe_dump({**content, "threads": 7}))
        status, out, _ = await self.command("reload")
        self.assertEqual((status, out), (0, "changed: nothing\nneeds a restart: threads\n"))


def _selected() -> list[str]:
    return [each.removeprefix("selected.") for each in DOUBLES if each.startswith("selected.")]
