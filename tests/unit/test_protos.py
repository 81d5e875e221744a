"""The generated code is what the pinned generator makes of ``protos/`` now."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("grpc_tools", reason="needs grpcio-tools")

ROOT = Path(__file__).parents[2]
PROTOS = sorted((ROOT / "protos").rglob("*.proto"))


def test_the_generated_code_is_up_to_date(tmp_path: Path) -> None:
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(ROOT / "protos"), *outputs]
    subprocess.run([*command, *map(str, PROTOS)], check=True)
    fresh = {path.name: path.read_text() for path in (tmp_path / "chatlab/v1").iterdir()}
    kept = {
        path.name: path.read_text()
        for path in (ROOT / "chatlab/v1").glob("*_pb2*")
        if path.suffix in (".py", ".pyi")
    }
    assert fresh == kept


@pytest.mark.parametrize("proto", PROTOS, ids=lambda path: path.name)
def test_everything_in_a_proto_is_documented(proto: Path) -> None:
    lines = proto.read_text().splitlines()
    bare = [
        line
        for before, line in pairwise(lines)
        if line.rstrip().endswith((";", "{", ")"))
        and not line.lstrip().startswith(("//", "syntax", "package", "import", "option"))
        and not before.lstrip().startswith("//")
    ]
    assert bare == []
