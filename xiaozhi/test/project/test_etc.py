"""The configuration files that ship: complete, true to the defaults, and loadable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi import plugins
from xiaozhi.agents.roles import check_roles
from xiaozhi.ai import schema as ai
from xiaozhi.base.errors import ConfigError
from xiaozhi.im import schema as im
from xiaozhi.im.settings import LinkSettings
from xiaozhi.interfaces import IProviderMaker, IToolSourceMaker
from xiaozhi.providers.kit.maker import KINDS
from xiaozhi.runtime.config import load, load_mapping, read_section

ETC = Path(__file__).resolve().parents[3] / "etc"
SCHEMAS: dict[str, type[msgspec.Struct]] = {"im.yaml": im.ImSettings, "ai.yaml": ai.AiSettings}

#: Settings that the files set on purpose to another value than the default.
CHOSEN = {"store.content": True}

_KEY_LINE = re.compile(r"^[#\s]*[a-z_]+:( |$)")


def complete(text: str) -> str:
    """Return a file with all commented-out settings enabled.

    ``#key`` and ``#  key`` are settings, ``# Words`` are words.
    """
    return re.sub(r"(?m)^#(?! \S|$)", "", text)


def leaves(settings: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key of a struct that is not a struct itself, with its full path and value."""
    for name in settings.__struct_fields__:
        value, key = getattr(settings, name), f"{at}.{name}" if at else name
        if isinstance(value, msgspec.Struct):
            yield from leaves(value, key)
        else:
            yield key, value


def given(content: Any, key: str) -> bool:
    """Return whether a mapping has a key of this full path."""
    for part in key.split("."):
        if not isinstance(content, dict) or part not in content:
            return False
        content = content[part]
    return True


class CompleteTests(SynchronousTestCase):
    """The parsing of the comments."""

    def test_switches_settings_on(self) -> None:
        text = "# Words: these.\n#\na:\n#  b: 1  # one\n# More words.\n#c:\n#  d: 2\n"
        self.assertEqual(
            complete(text), "# Words: these.\n#\na:\n  b: 1  # one\n# More words.\nc:\n  d: 2\n"
        )


class FileTests(SynchronousTestCase):
    def complete_path(self, name: str) -> Path:
        path = Path(self.mktemp())
        path.write_text(complete((ETC / name).read_text("utf-8")), "utf-8")
        return path

    def test_loads_as_it_stands(self) -> None:
        """No variable has to be set, and nothing else differs from the defaults."""
        for name, schema in SCHEMAS.items():
            settings = load(ETC / name, schema, environment={})
            defaults = dict(leaves(schema()))
            for key, value in leaves(settings):
                if key not in ("providers", "tools"):
                    self.assertEqual(value, CHOSEN.get(key, defaults[key]), f"{name}: {key}")

    def test_content_is_chosen(self) -> None:
        """Logging content is a decision, so the file sets it visibly."""
        self.assertFalse(im.ImSettings().store.content)
        self.assertIs(load_mapping(ETC / "im.yaml", environment={})["store"]["content"], True)

    def test_every_key_with_its_default(self) -> None:
        for name, schema in SCHEMAS.items():
            path = self.complete_path(name)
            content = load_mapping(path, environment={})
            written = dict(leaves(load(path, schema, environment={})))
            for key, default in leaves(schema()):
                self.assertTrue(given(content, key), f"{name}: {key} is not named")
                if key not in ("providers", "tools"):
                    expected = CHOSEN.get(key, default)
                    self.assertEqual(written[key], expected, f"{name}: {key}")

    def test_every_tool_source(self) -> None:
        """Every shipped source and key, with its default, if it has one."""
        sections = load_mapping(self.complete_path("ai.yaml"), environment={})["tools"]
        makers = {maker.name: maker for maker in getPlugins(IToolSourceMaker, plugins)}
        self.assertEqual(set(sections), set(makers))
        for name, maker in makers.items():
            settings = read_section(sections[name], maker.settings(), f"tools.{name}")
            self.assertEqual(set(sections[name]), set(msgspec.structs.asdict(settings)))

    def test_every_provider(self) -> None:
        """Every kind, name and key, with its default, if it has one."""
        sections = load_mapping(self.complete_path("ai.yaml"), environment={})["providers"]
        makers = {(m.kind, m.name): m for m in getPlugins(IProviderMaker, plugins)}
        self.assertEqual({kind for kind, _ in makers}, set(KINDS))
        there = {(kind, name) for kind in sections for name in sections[kind]}
        self.assertEqual(there, set(makers))
        for (kind, name), maker in makers.items():
            key = f"providers.{kind}.{name}"
            section, type_ = sections[kind][name], maker.settings()
            settings = read_section(section, type_, key)
            self.assertEqual(set(section), set(type_.__struct_fields__), key)
            for field in msgspec.structs.fields(type_):
                if field.required:
                    continue
                made = field.default_factory is not msgspec.NODEFAULT
                default = field.default_factory() if made else field.default
                self.assertEqual(getattr(settings, field.name), default, f"{key}.{field.name}")

    def test_unknown_keys_are_noticed(self) -> None:
        """The check above finds a key that does not exist, commented out or not."""
        path = self.complete_path("im.yaml")
        path.write_text(path.read_text("utf-8").replace("ping_interval:", "ping_intervall:"))
        error = self.assertRaises(ConfigError, load, path, im.ImSettings, environment={})
        self.assertIn("link.ping_intervall: unknown key", str(error))

    def test_samples_of_roles(self) -> None:
        """They work unchanged."""
        path = Path(self.mktemp())
        text = (ETC / "ai.yaml").read_text("utf-8")
        path.write_text(re.sub(r"(?m)^    # ((?:  )?[a-z]+:)", r"    \1", text), "utf-8")
        session = load(path, ai.AiSettings, environment={}).session
        self.assertEqual(list(session.roles), ["xiaozhi", "pirate", "teacher"])
        self.assertEqual(session.roles["pirate"].greeting, "Ahoy!")
        check_roles(session)

    def test_every_key_is_explained(self) -> None:
        """A setting has a comment on its line, or is below one."""
        for name in SCHEMAS:
            before = ""
            for number, line in enumerate((ETC / name).read_text("utf-8").splitlines(), 1):
                section = line.split("#  ")[-1].rstrip().endswith(":")
                if _KEY_LINE.match(line) and not section and " # " not in line:
                    self.assertRegex(before, r"^\s*# \S", f"{name}:{number}: {line}")
                before = line

    def test_choices(self) -> None:
        """If only some numbers are allowed, the comment lists them."""
        text = (ETC / "im.yaml").read_text("utf-8")
        for field in msgspec.structs.fields(LinkSettings):
            if get_origin(field.type) is Literal:
                comment = re.search(rf"(?m)^#  {field.name}: .*# .*: (.+)$", text)
                assert comment is not None, field.name
                told = tuple(int(number) for number in re.findall(r"\d+", comment[1]))
                self.assertEqual(told, get_args(field.type), field.name)

    def test_secrets_come_from_the_environment(self) -> None:
        for name in SCHEMAS:
            text = (ETC / name).read_text("utf-8")
            for match in re.finditer(r"(?m)^[#\s]*(?:api_)?key: *([^#\n]*)", text):
                self.assertRegex(match[1].strip(), r"^\$\{[A-Z_]+:-\}$", name)
            self.assertEqual(re.findall(r"://[^\s$/]*:[^\s$/@]+@", text), [], name)
