"""The READMEs: their commands work, and both languages have the same content."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import unicodedata
from collections.abc import Iterator
from configparser import ConfigParser
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from cryptography.x509 import load_pem_x509_certificates
from twisted.python.usage import Options
from twisted.trial import unittest

from xiaozhi.ai.schema import AiSettings
from xiaozhi.ai.tap import Options as AiOptions
from xiaozhi.auth import read_secret
from xiaozhi.base.ownership import Applicant, ClaimLimits, DeviceClaim, UnknownDevice
from xiaozhi.bridge.security import client_security, server_security
from xiaozhi.cli.agents import arguments as agents_arguments
from xiaozhi.device.cli import parser as device_parser
from xiaozhi.im.schema import ImSettings
from xiaozhi.im.tap import Options as ImOptions
from xiaozhi.runtime.config import load
from xiaozhi.testing.database import memory_devices
from xiaozhi.wire.mail import read_mail

ROOT = Path(__file__).resolve().parent.parent
ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = Path(sysconfig.get_path("scripts"))

_BLOCK = re.compile(r"(?ms)^```(\w*)\n(.*?)^```$")
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")


def blocks(path: Path, language: str) -> list[str]:
    """Return the code blocks of a document in one language."""
    return [code for name, code in _BLOCK.findall(path.read_text("utf-8")) if name == language]


def commands(path: Path) -> list[str]:
    """Return the lines of the shell blocks."""
    return [line for block in blocks(path, "sh") for line in block.splitlines() if line.strip()]


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub makes of a document's headings."""
    text = _BLOCK.sub("", path.read_text("utf-8"))
    found = set()
    for heading in re.findall(r"(?m)^#+ (.+)$", text):
        kept = (
            c for c in heading.lower() if c in " -_" or unicodedata.category(c)[0] in ("L", "N")
        )
        found.add("".join(kept).replace(" ", "-"))
    return found


def keys(type_: type[msgspec.Struct], at: str = "") -> Iterator[str]:
    """Return the full path of every key of a configuration, including sections."""
    for field in msgspec.structs.fields(type_):
        yield at + field.name
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from keys(field.type, f"{at}{field.name}.")


@cache
def run(*command: str, cwd: Path = ROOT) -> tuple[int, str]:
    """Run a command to its end.

    :return: status, and its output.
    """
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout


class CommandTests(unittest.TestCase):
    """Every command line is checked by a method ``check_NAME`` of its program."""

    def test_both_languages_have_the_same_commands(self) -> None:
        self.assertGreater(len(commands(ENGLISH)), 10)
        self.assertEqual(commands(CHINESE), commands(ENGLISH))
        self.assertEqual(blocks(CHINESE, "yaml"), blocks(ENGLISH, "yaml"))

    def test_each_command(self) -> None:
        for line in commands(ENGLISH):
            words = shlex.split(line)
            program = words[0].removeprefix(".venv/bin/").replace("-", "_")
            check = getattr(self, f"check_{program}", None)
            if check is None:
                self.fail(f"nothing here checks {line!r}")
            check(words[1:])

    def check_make(self, words: list[str]) -> None:
        # Not `make -n`, which does run recipes that call make.
        self.assertEqual(len(words), 1)
        self.assertRegex((ROOT / "Makefile").read_text("utf-8"), rf"(?m)^{words[0]}:.*\n\t")

    def check_mkdir(self, words: list[str]) -> None:
        self.assertEqual(words, ["-p", "-m", "700", "var/tls"])

    def check_openssl(self, words: list[str]) -> None:
        """Nothing to check: other tests cover the results."""
        self.assertIn(words[0], ("req", "rand"))

    def check_chmod(self, words: list[str]) -> None:
        self.assertEqual(words, ["600", "var/bridge.token"])

    def test_securing(self) -> None:
        """The commands make the files that both samples name, and these fit."""
        if shutil.which("openssl") is None:
            raise unittest.SkipTest("no openssl here")
        place = Path(self.mktemp()).absolute()
        place.mkdir()
        block = next(each for each in blocks(ENGLISH, "sh") if "openssl" in each)
        for line in block.splitlines():
            status, out = run(*shlex.split(line), cwd=place)
            self.assertEqual(status, 0, f"{line}\n{out}")
        ai, im = (each for each in blocks(ENGLISH, "yaml") if "tls:" in each)
        path = place / "sample.yaml"
        path.write_text(ai.replace("var/", f"{place}/var/"))
        server = server_security(load(path, AiSettings).grpc, read_secret)
        path.write_text(im.replace("var/", f"{place}/var/"))
        client = client_security(load(path, ImSettings).bridge, read_secret)
        assert server.client_ca and server.pair and client.ca and client.pair
        self.assertEqual(len(client.token), 64)
        self.assertEqual(client.token, server.token)
        (authority,) = load_pem_x509_certificates(client.ca)
        self.assertEqual(server.client_ca, client.ca)
        for pair in (server.pair, client.pair):
            load_pem_x509_certificates(pair.certificate)[0].verify_directly_issued_by(authority)

    def check_python3(self, words: list[str]) -> None:
        self.assertEqual(words, ["-m", "venv", ".venv"])

    def check_pip(self, words: list[str]) -> None:
        """The extras exist."""
        found = re.fullmatch(r"install -e \.\[([\w,]+)\]", " ".join(words))
        assert found is not None, words
        packaging = ConfigParser(interpolation=None)
        packaging.read(ROOT / "setup.cfg", "utf-8")
        for extra in found[1].split(","):
            self.assertIn(extra, packaging["options.extras_require"])

    def check_trial(self, words: list[str]) -> None:
        self.assertEqual(words, ["xiaozhi"])

    def check_twistd(self, words: list[str]) -> None:
        """The plugin exists, accepts the options, and can read its file."""
        at = next(i for i, word in enumerate(words) if word.startswith("xiaozhi-"))
        status, out = run(sys.executable, str(SCRIPTS / "twistd"), "--help")
        self.assertEqual(status, 0, out)
        self.assertRegex(out, rf"(?m)^ +{words[at]} ")
        for option in (word for word in words[:at] if word.startswith("-")):
            self.assertRegex(out, rf"(?m)(^|\s){re.escape(option.split('=')[0])}[=,\s]")
        own: Options = ImOptions() if words[at] == "xiaozhi-im" else AiOptions()
        own.parseOptions(words[at + 1 :])
        schema = ImSettings if words[at] == "xiaozhi-im" else AiSettings
        load(ROOT / own["config"], schema, environment={})

    def check_kill(self, words: list[str]) -> None:
        """It names the daemons' pid files."""
        named = set(re.findall(r"cat (\S+)\)", " ".join(words)))
        daemons = re.findall(r"twistd (xiaozhi-\w+)", "\n".join(commands(ENGLISH)))
        written = {f"{service}.pid" for service in daemons}
        self.assertEqual(named, written)

    def check_curl(self, words: list[str]) -> None:
        """It requests a port on which a service listens by default."""
        url = urlsplit(words[-1])
        im = load(ROOT / "etc/im.yaml", ImSettings, environment={})
        ai = load(ROOT / "etc/ai.yaml", AiSettings, environment={})
        self.assertIn(url.port, {im.listen.port, ai.http.listen.port})
        if url.path not in ("/health", "/metrics"):
            # tests/test_scaling.py tests its effect.
            self.assertRegex(url.path, r"^/api/devices/[0-9a-f:]{17}/messages$")
            read_mail(words[words.index("-d") + 1].encode())
        self.assertTrue(im.metrics.shared and ai.metrics.shared)

    def check_xiaozhi_device(self, words: list[str]) -> None:
        """It is installed and accepts the arguments."""
        status, out = run(str(SCRIPTS / "xiaozhi-device"), "--help")
        self.assertEqual(status, 0, out)
        options = device_parser().parse_intermixed_args(words)
        self.assertEqual(urlsplit(options.ota).path, "/xiaozhi/ota/")

    def check_xiaozhi_token(self, words: list[str]) -> None:
        """It works, with a key generated on the way."""
        place = Path(self.mktemp()).absolute()
        place.mkdir()
        (place / "etc").symlink_to(ROOT / "etc")
        program = str(SCRIPTS / "xiaozhi-token")
        issue = ["issue", "--config", "etc/im.yaml", "--device-id", "aa:bb:cc:dd:ee:ff"]
        status, out = run(program, *issue, cwd=place)
        self.assertEqual(status, 0, out)
        *notices, token = out.splitlines()
        self.assertEqual(notices, ["xiaozhi-token: generated a new key: var/jwt.key"])
        meant = {"TOKEN": token, "123456": self.waiting(place)}
        given = [meant.get(word, word) for word in words]
        status, out = run(program, *given, cwd=place)
        self.assertEqual(status, 0, out)
        if words[0] == "show":
            self.assertRegex(out, r"(?m)^valid +yes$")
            self.assertIn("aa:bb:cc:dd:ee:ff", out)

    def check_xiaozhi_agents(self, words: list[str]) -> None:
        """It accepts the arguments and finds no error in the file."""
        parsed = agents_arguments().parse_args(words)
        self.assertEqual(parsed.config, "etc/ai.yaml")
        if words[0] == "check":
            status, out = run(str(SCRIPTS / "xiaozhi-agents"), *words)
            self.assertEqual(status, 0, out)

    def waiting(self, place: Path) -> str:
        """Make a registry in which the samples' device waits. :return: its code."""
        registry = memory_devices(str(place / "var" / "devices.sqlite3"))
        registry.start()
        who = Applicant("aa:bb:cc:dd:ee:ff", "digest")
        found: list[object] = []
        registry.apply(who, UnknownDevice.ASK, ClaimLimits(), datetime.now(UTC)).addCallback(
            found.append
        )
        registry.stop()
        [claim] = found
        assert isinstance(claim, DeviceClaim)
        return claim.code


class TextTests(unittest.TestCase):
    def test_configuration_samples(self) -> None:
        """Every YAML sample is a valid configuration of one of the services."""
        secrets = {"OPENAI_API_KEY": "k", "POSTGRES_PASSWORD": "p", "REDIS_PASSWORD": "r"}
        samples = blocks(ENGLISH, "yaml")
        self.assertGreater(len(samples), 1)
        for sample in samples:
            path = Path(self.mktemp())
            path.write_text(sample, "utf-8")
            load(
                path,
                AiSettings if re.search("providers:|grpc:|agents:", sample) else ImSettings,
                environment=secrets,
            )

    def test_links(self) -> None:
        """Links lead to files of the checkout and their headings, or elsewhere."""
        for document in DOCUMENTS:
            text = _BLOCK.sub("", document.read_text("utf-8"))
            for target in _LINK.findall(text):
                if urlsplit(target).scheme:
                    continue
                name, _, anchor = target.partition("#")
                path = document.parent / name if name else document
                self.assertTrue(path.exists(), f"{document.name}: {target}")
                if anchor:
                    self.assertIn(anchor, anchors(path), f"{document.name}: {target}")

    def test_named_settings_exist(self) -> None:
        """A key in the documents is a key of one of the services."""
        known = [*keys(ImSettings), *keys(AiSettings)]
        sections = "|".join({key.split(".")[0] for key in known if "." in key})
        missing = []
        documents = [ROOT / "docs" / name for name in ("architecture.md", "operations.md")]
        for document in (ENGLISH, CHINESE, *documents):
            text = document.read_text("utf-8")
            for key in re.findall(rf"`((?:{sections})\.[a-z_.]+)[:`]", text):
                if key not in known:
                    missing.append(f"{document.name}: {key}")
        self.assertEqual(missing, [])

    def test_named_modules_exist(self) -> None:
        """A path in the documents is a path in the checkout."""
        missing = []
        for document in (ENGLISH, CHINESE, ROOT / "CONTRIBUTING.md", ROOT / "docs/architecture.md"):
            for path in re.findall(
                r"`((?:xiaozhi|tests|etc|docs|proto|twisted)/[\w./]+)`",
                (document.read_text("utf-8")),
            ):
                if not (ROOT / path).exists():
                    missing.append(f"{document.name}: {path}")
        self.assertEqual(missing, [])

    def test_named_parts_exist(self) -> None:
        """A module named without the package's name, dotted or as a path, exists."""
        parts = "|".join(path.name for path in (ROOT / "xiaozhi").iterdir() if path.is_dir())
        dotted = re.compile(rf"`((?:{parts})(?:\.\w+)+)`")
        slashed = re.compile(rf"`((?:{parts})/[\w/]+\.py)`")
        known = {*keys(ImSettings), *keys(AiSettings)}
        missing, named = [], 0
        for document in DOCUMENTS:
            text = document.read_text("utf-8")
            paths = [f"{each.replace('.', '/')}" for each in dotted.findall(text)
                     if each not in known and document.name == "protocol-notes.md"]  # fmt: skip
            for path in (*paths, *(each[:-3] for each in slashed.findall(text))):
                named += 1
                place = ROOT / "xiaozhi" / path
                if not (place.is_dir() or place.with_suffix(".py").is_file()):
                    missing.append(f"{document.name}: {path}")
        self.assertGreater(named, 30)
        self.assertEqual(missing, [])

    def test_named_tests_exist(self) -> None:
        found = {
            path.stem for part in ("xiaozhi/test", "tests") for path in (ROOT / part).rglob("*")
        }
        named = re.findall(r"`(test_\w+)`", (ROOT / "docs" / "architecture.md").read_text("utf-8"))
        self.assertTrue(named)
        self.assertEqual([name for name in named if name not in found], [])
