"""The wire contract: linted, documented, and what the generated code was made of."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROTOS = sorted((ROOT / "protos").rglob("*.proto"))


def test_the_generated_code_is_up_to_date(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="needs grpcio-tools")
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


@pytest.fixture
def lint(tmp_path: Path) -> Callable[[Path], list[str]]:
    """What buf complains of in a folder. It sees no home, no cache and no configuration but
    the folder's own, and has no dependency to fetch."""
    buf = Path(sys.executable).with_name("buf")
    if not buf.exists():
        pytest.skip("needs buf-bin")
    aside = tmp_path / "aside"
    aside.mkdir()

    def run(folder: Path) -> list[str]:
        ended = subprocess.run(
            [str(buf), "lint"],
            cwd=folder,
            env={"HOME": str(aside), "XDG_CACHE_HOME": str(aside), "PATH": ""},
            capture_output=True,
            text=True,
            timeout=60,
        )
        said = ended.stdout.splitlines()
        assert (ended.returncode != 0) == bool(said), ended.stderr
        return said

    return run


def test_the_linter_has_nothing_to_say(lint: Callable[[Path], list[str]]) -> None:
    assert lint(ROOT / "protos") == []


@pytest.mark.parametrize(
    ("good", "bad", "complaint"),
    [
        ("service PrivateChatService {", "service PrivateChat {", '"Service"'),
        ("package chatlab.v1;", "package chatlab;", "chatlab"),
        ("rpc Claim(ClaimRequest)", "rpc Claim(SendRequest)", "SendRequest"),
        ("OUTCOME_UNSPECIFIED = 0", "OUTCOME_NONE = 0", "OUTCOME_NONE"),
        ("string name = 1;", "string Name = 1;", "lower_snake_case"),
    ],
)
def test_the_linter_sees_a_broken_contract(
    lint: Callable[[Path], list[str]], tmp_path: Path, good: str, bad: str, complaint: str
) -> None:
    copy = tmp_path / "protos"
    shutil.copytree(ROOT / "protos", copy)
    proto = copy / "chatlab/v1/private_chat.proto"
    assert good in proto.read_text()
    proto.write_text(proto.read_text().replace(good, bad))
    assert any(complaint in line for line in lint(copy))
