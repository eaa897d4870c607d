"""The wire format, as recorded in ``tests/golden``.

These files are the contract with devices in the field and with the other service of another
version: a change that breaks one of them breaks a peer.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from dataclasses import Field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from xiaozhi._pb import ai_service_pb2 as pb
from xiaozhi.base.errors import ProtocolError
from xiaozhi.wire import convert
from xiaozhi.wire import messages as m
from xiaozhi.wire.frames import codec
from xiaozhi.wire.jsontext import JsonDialect, parse_device, parse_server, render

HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "golden"
ROOT = HERE.parent


def golden(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))
    assert cases, name
    return cases


def _may_lack(field: Field[Any]) -> bool:
    """Return whether a vector may lack an empty field: the members of a transport."""
    return field.default_factory is dict


def plain(value: Any) -> Any:
    """Return a message as JSON: its fields, and ``is`` with its name; bytes in hex or as text."""
    if is_dataclass(value):
        members = {
            field.name: plain(getattr(value, field.name))
            for field in fields(value)
            if field.compare and not (_may_lack(field) and not getattr(value, field.name))
        }
        return {"is": type(value).__name__} | members
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [plain(part) for part in value]
    if isinstance(value, bytes):
        return value.decode() if value[:1] == b"{" else value.hex()
    return value


def message(case: dict[str, Any]) -> Any:
    """Return the message of such JSON."""
    kind = getattr(m, case["is"])
    members = {}
    for field in (field for field in fields(kind) if field.compare):
        if field.name not in case and _may_lack(field):
            continue
        value = case[field.name]
        if isinstance(value, dict):
            value = message(value)
        elif isinstance(value, list):
            value = tuple(message(part) for part in value)
        elif "bytes" in str(field.type):
            value = value.encode() if value[:1] == "{" else bytes.fromhex(value)
        elif hasattr(m, str(field.type)) and isinstance(value, str):
            value = getattr(m, str(field.type))(value)
        members[field.name] = value
    return kind(**members)


class TextTests(SynchronousTestCase):
    def test_texts_from_devices(self) -> None:
        """Texts exactly as each client sends them, and their values."""
        for case in golden("device_texts"):
            parsed, dialect = parse_device(case["text"])
            self.assertEqual(plain(parsed), case["message"], case["from"])
            self.assertEqual(dialect.value, case["dialect"], case["from"])

    def test_refusals(self) -> None:
        for case in golden("refused_texts"):
            with self.assertRaises(ProtocolError) as raised:
                parse_device(case["text"])
            self.assertEqual(raised.exception.code, case["code"])
            # The rest is the JSON library's wording.
            self.assertTrue(raised.exception.message.startswith(case["says"]), case)

    def test_texts_to_devices(self) -> None:
        for case in golden("server_texts"):
            dialect = JsonDialect(case["dialect"])
            text = render(message(case["message"]), dialect, case["session_id"], case["now_ms"])
            self.assertEqual(text, case["text"])
            self.assertEqual(plain(parse_server(text)[0]), case["message"])


class FrameTests(SynchronousTestCase):
    def test_frames(self) -> None:
        for case in golden("frames"):
            pack, unpack = codec(case["framing"])
            audio = m.Audio(bytes.fromhex(case["payload"]), case["timestamp"])
            self.assertEqual(pack(audio).hex(), case["frame"].replace(" ", ""))
            self.assertEqual(unpack(pack(audio)), audio)

    def test_bad_frames(self) -> None:
        for case in golden("bad_frames"):
            data = bytes.fromhex(case["frame"].replace(" ", ""))
            with self.assertRaises(ProtocolError) as raised:
                codec(case["framing"])[1](data)
            self.assertEqual(raised.exception.message, case["says"])


class ProtobufTests(SynchronousTestCase):
    """Compared as bytes when written and as values when read: a later protobuf may order fields
    differently, which no reader may notice.
    """

    def test_requests(self) -> None:
        seen = set()
        for case in golden("requests"):
            sent = message(case["message"])
            seen.add(type(sent))
            item = convert.request(sent, case["session_id"], case["sequence"])
            told = f"{case}: it is {item.SerializeToString().hex()} now"
            frozen = pb.ChatRequest.FromString(bytes.fromhex(case["protobuf"]))
            self.assertEqual(item, frozen, told)
            self.assertEqual(convert.read_request(frozen), sent)
        self.assertEqual({*convert._REQUEST, m.Audio} - seen, set(), "without a vector")

    def test_responses(self) -> None:
        seen = set()
        for case in golden("responses"):
            sent = message(case["message"])
            seen.add(type(sent))
            item = convert.response(sent, case["session_id"], case["sequence"])
            told = f"{case}: it is {item.SerializeToString().hex()} now"
            frozen = pb.ChatResponse.FromString(bytes.fromhex(case["protobuf"]))
            self.assertEqual(item, frozen, told)
            self.assertEqual(convert.read_response(frozen), sent)
        self.assertEqual({*convert._RESPONSE, m.Audio} - seen, set(), "without a vector")


class GeneratedCodeTests(SynchronousTestCase):
    def test_generated_code_is_up_to_date(self) -> None:
        """``make proto`` would change nothing."""
        out = Path(self.mktemp())
        out.mkdir()
        command = [sys.executable, "-m", "grpc_tools.protoc", "-I", f"xiaozhi/_pb={ROOT}/proto"]
        command += [f"--{kind}_out={out}" for kind in ("python", "grpc_python", "pyi")]
        command.append(f"{ROOT}/proto/ai_service.proto")
        done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
        self.assertEqual(done.returncode, 0, done.stderr)
        names = sorted(path.name for path in (out / "xiaozhi" / "_pb").iterdir())
        self.assertEqual(
            names, ["ai_service_pb2.py", "ai_service_pb2.pyi", "ai_service_pb2_grpc.py"]
        )
        made_by = _versions((ROOT / "xiaozhi" / "_pb" / "ai_service_pb2_grpc.py").read_text())
        same = made_by == importlib.metadata.version("grpcio-tools")
        for name in names:
            fresh = (out / "xiaozhi" / "_pb" / name).read_text()
            kept = (ROOT / "xiaozhi" / "_pb" / name).read_text()
            if same:
                self.assertEqual(fresh, kept, f"{name}: run make proto")
            else:
                # Another generator version writes other lines around the same contract.
                self.assertEqual(_descriptor(fresh), _descriptor(kept), f"{name}: run make proto")


def _versions(generated: str) -> str:
    """Return the version of grpcio-tools, which the generated code names."""
    for line in generated.splitlines():
        if line.startswith("GRPC_GENERATED_VERSION"):
            return line.split("'")[1]
    return ""


def _descriptor(generated: str) -> list[str]:
    return [line for line in generated.splitlines() if "AddSerializedFile" in line]
