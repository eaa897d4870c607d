"""docs/operations.md names every metric there is, and no other; so do the alerts."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any

import yaml
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.ai.schema import AiSettings
from xiaozhi.ai.tap import ai_service
from xiaozhi.im.schema import ImSettings
from xiaozhi.im.tap import edge_service
from xiaozhi.metrics.families import name_of
from xiaozhi.metrics.registry import Metrics
from xiaozhi.runtime.config import read_section

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = ROOT / "docs" / "operations.md"
SAMPLES = ROOT / "etc" / "prometheus"

_NAME = r"(?:xiaozhi|process)_[a-z_]+"


def families(case: SynchronousTestCase, make: Any, settings: Any) -> dict[str, str]:
    """Return names and types of all metrics of a service that is assembled, not started."""
    made: list[Metrics] = []

    class Noted(Metrics):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    module = __import__(make.__module__, fromlist=["Metrics"])
    case.patch(module, "Metrics", Noted)
    make(settings(state_dir=case.mktemp()), Clock())
    (metrics,) = made
    return {name_of(family): family.type for family in metrics.families()}


class DocumentTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.im = families(self, edge_service, ImSettings)
        self.ai = families(self, ai_service, AiSettings)
        self.text = DOCUMENT.read_text("utf-8")

    def test_each_metric_has_its_row(self) -> None:
        rows = re.findall(rf"(?m)^\| `({_NAME})` \|", self.text)
        self.assertEqual(len(rows), len(set(rows)))
        self.assertEqual(set(rows), set(self.im) | set(self.ai))

    def test_names_elsewhere(self) -> None:
        self.assertEqual(
            set(re.findall(rf"`({_NAME})`", self.text)) - set(self.im) - set(self.ai), set()
        )

    def test_conventions(self) -> None:
        for service, found in (("im", self.im), ("ai", self.ai)):
            for name, kind in found.items():
                self.assertRegex(name, rf"^(xiaozhi_{service}|process)_[a-z_]+$")
                self.assertEqual(name.endswith("_total"), kind == "counter", name)
                if kind == "histogram":
                    self.assertTrue(name.endswith("_seconds"), name)

    def known(self) -> set[str]:
        """Return every series that a query may name."""
        known: set[str] = set()
        for name, kind in (self.im | self.ai).items():
            ends = ("_bucket", "_count", "_sum") if kind == "histogram" else ("",)
            known.update(name + end for end in ends)
        return known

    def test_alerts(self) -> None:
        rules = yaml.safe_load((SAMPLES / "alerts.yml").read_text("utf-8"))
        found = [rule for group in rules["groups"] for rule in group["rules"]]
        self.assertGreater(len(found), 8)
        headings = {anchor(line) for line in re.findall(r"(?m)^#+ (.+)$", self.text)}
        for rule in found:
            named = set(re.findall(_NAME, rule["expr"]))
            self.assertEqual(named - self.known(), set(), rule["alert"])
            self.assertTrue(named or "up{" in rule["expr"], rule["alert"])
            self.assertIn(rule["annotations"]["runbook"], headings, rule["alert"])
            self.assertIn(rule["labels"]["severity"], ("page", "ticket"), rule["alert"])

    def test_scraping(self) -> None:
        """The sample scrapes the services' default ports."""
        sample = yaml.safe_load((SAMPLES / "prometheus.yml").read_text("utf-8"))
        for file in sample["rule_files"]:
            self.assertTrue((SAMPLES / file).exists(), file)
        ports = {
            job["job_name"]: job["static_configs"][0]["targets"][0].rpartition(":")[2]
            for job in sample["scrape_configs"]
        }
        self.assertEqual(
            ports,
            {
                "xiaozhi-im": str(ImSettings().listen.port),
                "xiaozhi-ai": str(AiSettings().http.listen.port),
            },
        )

    def test_samples_of_settings(self) -> None:
        for sample in re.findall(r"(?ms)^```yaml\n(.*?)^```$", self.text):
            for settings in (ImSettings, AiSettings):
                read_section(yaml.safe_load(sample), settings, "sample")

    def test_refusals(self) -> None:
        """Every code of a refusal is explained."""
        codes = set()
        for path in sorted((ROOT / "xiaozhi" / "im").rglob("*.py")):
            source = path.read_text("utf-8")
            codes.update(re.findall(r'(?:Refusal|_refuse)\(\d+, "(\w+)"', source))
            codes.update(re.findall(r'(?:Refused|AuthError|dropped)\("(\w+)"', source))
            if path.name == "peers.py":
                codes.update(re.findall(r'return "(\w+)"', source))
        tokens = (ROOT / "xiaozhi" / "auth" / "tokens.py").read_text("utf-8")
        codes.update(re.findall(r'AuthError\("((?:token|wrong)_\w+|missing_token)"', tokens))
        self.assertGreater(len(codes), 15)
        self.assertEqual({code for code in codes if f"`{code}`" not in self.text}, set())

    def test_reasons(self) -> None:
        """The codes the edge closes with by itself are explained."""
        source = "".join(
            path.read_text("utf-8") for path in sorted((ROOT / "xiaozhi" / "im").rglob("*.py"))
        )
        reasons = set(re.findall(r'(?:_shut|expired)\([\w.]+, "(\w+)"\)', source))
        self.assertGreater(len(reasons), 5)
        for reason in reasons:
            self.assertIn(f"`{reason}`", self.text)


def anchor(heading: str) -> str:
    """Return the anchor that GitHub makes."""
    kept = (c for c in heading.lower() if c in " -_" or unicodedata.category(c)[0] in "LN")
    return "".join(kept).replace(" ", "-")
