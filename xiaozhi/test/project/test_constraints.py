"""The constraints files pin every package that setup.cfg requires, each with hashes."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from twisted.trial import unittest

from xiaozhi.test import laws

ROOT = Path(laws.__file__).resolve().parents[2]
PYTHONS = ("3.11.9", "3.12.9", "3.13.9")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")


class ConstraintsTests(unittest.SynchronousTestCase):
    def pinned(self, name: str) -> list[tuple[Requirement, int]]:
        """Return each pinned package with the number of its hashes."""
        text = (ROOT / "constraints" / f"{name}.txt").read_text("utf-8")
        text = re.sub(r"(?m)^\s*#.*\n", "", text).replace("\\\n", " ")
        return [
            (Requirement(line.partition(" --hash")[0]), len(HASH.findall(line)))
            for line in text.splitlines()
            if line.strip()
        ]

    def required(self, *extras: str) -> list[Requirement]:
        setup = configparser.ConfigParser(interpolation=None)
        setup.read(ROOT / "setup.cfg", "utf-8")
        texts = [setup["options"]["install_requires"]]
        texts += [setup["options.extras_require"][extra] for extra in extras]
        lines = [line for text in texts for line in text.splitlines()]
        return [Requirement(line) for line in lines if line and not line.startswith("#")]

    def assert_pins(self, name: str, *extras: str) -> None:
        pins = self.pinned(name)
        self.assertGreater(len(pins), 30)
        for pin, hashes in pins:
            self.assertRegex(str(pin.specifier), r"^==[^*]+$", pin.name)
            self.assertGreater(hashes, 0, pin.name)
        for python in PYTHONS:
            environment = {"python_version": python[:4], "python_full_version": python}
            chosen = {
                canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
                for pin, _ in pins
                if pin.marker is None or pin.marker.evaluate(environment)
            }
            for each in self.required(*extras):
                if each.marker is None or each.marker.evaluate(environment):
                    version = chosen.get(canonicalize_name(each.name))
                    assert version is not None, f"{name}.txt lacks {each} for {python}"
                    self.assertTrue(
                        each.specifier.contains(version, prereleases=True),
                        f"{name}.txt: {version} is not {each}; run `make constraints`",
                    )

    def test_offline(self) -> None:
        self.assert_pins("offline", "offline")

    def test_dev(self) -> None:
        self.assert_pins("dev", "offline", "dev")
