"""Configuration: values, and the message of each error."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta
from twisted.trial import unittest

from xiaozhi.base.errors import ConfigError
from xiaozhi.runtime import config

Port = Annotated[int, Meta(ge=1, le=65535)]


class Listen(msgspec.Struct, frozen=True):
    host: str
    port: Port = 8000

    def __post_init__(self) -> None:
        if self.host == "nowhere":
            raise ValueError("host and port do not go together")


class Pacer(msgspec.Struct, frozen=True):
    lead_frames: Annotated[int, Meta(ge=0)] = 3
    ratio: float = 1.0


Address = Annotated[str, Meta(pattern=r"^.+:\d+$", description="host:port")]


class Settings(msgspec.Struct, frozen=True):
    pacer: Pacer = Pacer()
    listens: tuple[Listen, ...] = ()
    targets: Annotated[tuple[str, ...], Meta(min_length=1)] = ("a:1",)
    addresses: tuple[Address, ...] = ()
    mode: Literal["open", "closed"] = "open"
    tls: Listen | None = None
    required: bool = True
    secret: Annotated[str, Meta(min_length=8)] = "not-given"
    by_name: dict[str, Pacer] = {}
    sections: dict[str, dict[str, Any]] = {}


class ConfigTests(unittest.SynchronousTestCase):
    def write(self, text: str) -> str:
        path: str = self.mktemp()
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def load(self, text: str, *overrides: str, **environment: str) -> Settings:
        return config.load(self.write(text), Settings, overrides, environment)

    def refused(self, call: Callable[[], object]) -> str:
        error = self.assertRaises(ConfigError, call)
        message: str = error.message
        self.assertNotIn("\n", message)
        return message

    def assert_told(self, expected: str, text: str, *overrides: str, **environment: str) -> None:
        """Check for exactly this message after the file's name."""
        path = self.write(text)
        message = self.refused(lambda: config.load(path, Settings, overrides, environment))
        self.assertEqual(message.replace(path, "F"), expected)

    def test_empty_file_is_the_defaults(self) -> None:
        self.assertEqual(self.load(""), Settings())

    def test_values(self) -> None:
        read = self.load(
            "pacer: {lead_frames: 0, ratio: 2}\n"
            "listens: [{host: '::', port: 1}, {host: b}]\n"
            "tls: {host: c}\nmode: closed\nby_name: {x.y: {ratio: 1e-3}}\n"
        )
        self.assertEqual(read.pacer, Pacer(0, 2.0))
        self.assertEqual(read.listens, (Listen("::", 1), Listen("b", 8000)))
        self.assertEqual(read.tls, Listen("c"))
        self.assertEqual(read.by_name, {"x.y": Pacer(ratio=0.001)})

    def test_wrong_type(self) -> None:
        self.assert_told(
            "F: pacer.lead_frames: expected an integer >= 0, not 'three'",
            "pacer: {lead_frames: three}",
        )

    def test_quoted_number_is_a_string(self) -> None:
        self.assert_told(
            "F: listens[1].port: expected an integer >= 1 and <= 65535, not '80'",
            "listens: [{host: a}, {host: b, port: '80'}]",
        )

    def test_out_of_range(self) -> None:
        self.assert_told(
            "F: tls.port: expected an integer >= 1 and <= 65535, not 0", "tls: {host: a, port: 0}"
        )

    def test_choice(self) -> None:
        self.assert_told("F: mode: expected one of closed, open, not 'ajar'", "mode: ajar")

    def test_bool_is_true_or_false(self) -> None:
        self.assert_told("F: required: expected true or false, not 'yes'", "required: yes")
        self.assert_told("F: required: expected true or false, not 1", "required: 1")

    def test_bool_is_not_a_number(self) -> None:
        self.assert_told(
            "F: pacer.lead_frames: expected an integer >= 0, not true", "pacer: {lead_frames: true}"
        )

    def test_empty_value(self) -> None:
        self.assert_told("F: pacer: expected a mapping, not empty", "pacer:")

    def test_list_limits(self) -> None:
        self.assert_told(
            "F: targets: expected a list of at least 1 entries, each a string", "targets: []"
        )

    def test_not_a_list(self) -> None:
        self.assert_told(
            "F: targets: expected a list of at least 1 entries, each a string, not 'a:1'",
            "targets: a:1",
        )

    def test_a_pattern_is_described_in_words(self) -> None:
        self.assert_told("F: addresses[1]: expected host:port, not 'a'", "addresses: ['a:1', a]")

    def test_inside_a_map(self) -> None:
        self.assert_told(
            "F: by_name.x.ratio: expected a number, not 'fast'", "by_name: {x: {ratio: fast}}"
        )

    def test_missing(self) -> None:
        self.assert_told("F: tls.host: is missing; expected a string", "tls: {port: 1}")

    def test_refused_by_the_struct_itself(self) -> None:
        self.assert_told("F: tls: host and port do not go together", "tls: {host: nowhere}")

    def test_unknown_key_names_the_nearest(self) -> None:
        self.assert_told(
            "F: pacer.leed_frames: unknown key; did you mean lead_frames?",
            "pacer: {leed_frames: 1}",
        )

    def test_unknown_key_far_from_any(self) -> None:
        self.assert_told(
            "F: pacer.zzz: unknown key; known are lead_frames, ratio", "pacer: {zzz: 1}"
        )

    def test_a_key_of_two_lines_is_reported_in_one(self) -> None:
        self.assert_told(
            r"F: pacer.'a\nb': unknown key; known are lead_frames, ratio", 'pacer: {"a\\nb": 1}'
        )

    def test_duplicate_key(self) -> None:
        self.assert_told(
            "F:3:3: the key 'ratio' is given twice", "pacer:\n  ratio: 1\n  ratio: 2\n"
        )

    def test_syntax_error_names_line_and_column(self) -> None:
        self.assert_told("F:2:11: mapping values are not allowed here", "mode: open\ntargets: a: b")

    def test_foreign_tag(self) -> None:
        path = self.write("mode: !!python/object/apply:os.getcwd []")
        message = self.refused(lambda: config.load(path, Settings))
        self.assertIn(":1:7: could not determine a constructor", message)

    def test_not_a_mapping(self) -> None:
        self.assert_told("F: expected a mapping, not a list", "- 1")

    def test_inside_itself(self) -> None:
        self.assert_told("F: nested too deeply, or inside itself", "sections: &a {b: *a}")

    def test_missing_file(self) -> None:
        message = self.refused(lambda: config.load("no/such.yaml", Settings))
        self.assertEqual(message, "no/such.yaml: there is no such file")

    def test_directory_and_not_utf8(self) -> None:
        message = self.refused(lambda: config.load(os.curdir, Settings))
        self.assertIn("cannot be read", message)
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(b"mode: \xff")
        self.assertIn("it is not UTF-8", self.refused(lambda: config.load(path, Settings)))

    def test_merge_key(self) -> None:
        read = self.load("pacer: &p {ratio: 5}\nby_name: {a: {<<: *p, lead_frames: 1}}")
        self.assertEqual(read.by_name["a"], Pacer(1, 5.0))

    # the environment

    def test_environment(self) -> None:
        read = self.load("targets: ['${HOST}:${PORT:-1}']", HOST="ai")
        self.assertEqual(read.targets, ("ai:1",))

    def test_environment_gives_numbers_and_truth(self) -> None:
        read = self.load("tls: {host: h, port: '${P}'}\nrequired: ${R}", P="81", R="false")
        self.assertEqual((read.tls, read.required), (Listen("h", 81), False))

    def test_environment_unset(self) -> None:
        self.assert_told(
            "F: sections.openai.api_key: the environment variable KEY is not set",
            "sections: {openai: {api_key: '${KEY}'}}",
        )

    def test_environment_value_is_not_shown(self) -> None:
        self.assert_told(
            "F: tls.port: expected an integer >= 1 and <= 65535,"
            " not the value from the environment",
            "tls: {host: h, port: '${P}'}",
            P="hunter2",
        )

    def test_secret_is_not_shown(self) -> None:
        self.assert_told(
            "F: secret: expected a string of at least 8 characters, not this string",
            "secret: hunter2",
        )

    # overrides

    def test_override_wins_and_makes_sections(self) -> None:
        read = self.load(
            "pacer: {ratio: 5}", "pacer.ratio=6", "sections.echo.n=[1, 2]", "targets=[x, y]"
        )
        self.assertEqual(read.pacer.ratio, 6.0)
        self.assertEqual(read.sections, {"echo": {"n": [1, 2]}})
        self.assertEqual(read.targets, ("x", "y"))

    def test_override_is_named_in_errors(self) -> None:
        self.assert_told(
            "--set pacer.ratio: expected a number, not 'x'", "pacer: {}", "pacer.ratio=x"
        )
        self.assert_told(
            "--set tls: tls.prt: unknown key; did you mean port?", "", "tls={host: h, prt: 1}"
        )

    def test_override_malformed(self) -> None:
        for bad in ("pacer", "=1", ".a=1", "a..b=1"):
            self.assert_told(
                f"--set {bad}: expected KEY=VALUE, e.g. --set listen.port=8000", "", bad
            )
        self.assert_told(
            "--set mode.x: mode is not a mapping; set it as a whole", "mode: open", "mode.x=1"
        )

    # the rest

    def test_mapping_without_a_type(self) -> None:
        path = self.write("anything: {goes: '${X:-1}'}")
        self.assertEqual(
            config.load_mapping(path, ["more=2"], {}), {"anything": {"goes": "1"}, "more": 2}
        )

    def test_section_read_later(self) -> None:
        self.assertEqual(config.read_section({"ratio": 2}, Pacer, "p.x"), Pacer(ratio=2.0))
        message = self.refused(lambda: config.read_section({"ratoi": 2}, Pacer, "p.x", "F"))
        self.assertEqual(message, "F: p.x.ratoi: unknown key; did you mean ratio?")

    @settings(max_examples=100)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=10,
        )
    )
    def test_anything_is_read_or_refused_in_one_line(self, content: Any) -> None:
        path = self.write(yaml.safe_dump({"listens": content, "by_name": content}))
        try:
            config.load(path, Settings, (), {})
        except ConfigError as error:
            self.assertEqual(error.message.count("\n"), 0)
