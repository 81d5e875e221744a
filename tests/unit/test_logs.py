"""The log: one record a line, nothing forged, and no secret in any."""

from __future__ import annotations

import argparse
import base64
import io
import json
import logging
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from chatlab import cli, logs
from chatlab.errors import InvalidInput
from chatlab.private import session as sessions
from chatlab.private.session import Session
from chatlab.settings import Settings

SETTINGS = Settings(log_level="debug")
#: With all that a URL, JSON and a pattern would write in another way.
SECRET = 'xyzzy/plu"gh\\ ñ.*'
FORGED = "ana\n2026-11-30T10:00:00.000+00:00 info chatlab.private.service claim user=eve"
#: Ends a line, clears the screen, or turns the reading direction.
UGLY = "a\r\x1b[2J\x85\u2028\u202e\ud800\x00b"

log = logs.of("chatlab.test")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root, chatlab = logging.getLogger(), logging.getLogger("chatlab")
    levels = root.level, chatlab.level
    yield
    logs.end()
    root.setLevel(levels[0])
    chatlab.setLevel(levels[1])


def records(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_record_is_a_line_of_json_with_time_level_event_and_fields(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.begin(SETTINGS)
    log.info("claim", user="ana", incarnation=7, tls=False, level="mine")
    (record,) = records(capsys)
    assert record.pop("time").endswith("+00:00")
    assert record == {
        "level": "info",
        "logger": "chatlab.test",
        "event": "claim",
        "user": "ana",
        "incarnation": 7,
        "tls": False,
    }


@pytest.mark.parametrize("format", ["json", "text"])
@pytest.mark.parametrize("name", [FORGED, UGLY])
def test_nothing_in_a_name_forges_a_record_or_reaches_the_terminal(
    format: logs.Format, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.begin(SETTINGS, format)
    log.info("claim", user=name, why="x")
    # Half a character less: what pytest captures has to fit into its own report.
    logging.getLogger("other").warning("what %s said", name.replace("\ud800", ""))
    written = capsys.readouterr().err
    assert written.isascii() or format == "text"
    assert len(written.splitlines()) == written.count("\n") == 2
    assert written.replace("\n", "").isprintable()


def test_words_for_people_are_one_line_and_what_needs_them_has_quotation_marks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.begin(SETTINGS, "text")
    log.warning("refused", user='a "b" c=d', n=3, peer="127.0.0.1:4711", name="señor")
    line = capsys.readouterr().err
    said = (
        ' warning chatlab.test refused user="a \\"b\\" c=d" n=3 peer=127.0.0.1:4711 name=señor'
    )
    assert line.endswith(f"{said}\n")


def raise_and_log(text: str) -> None:
    try:
        try:
            raise ValueError(f"inner {text}")
        except ValueError as error:
            raise RuntimeError(f"outer {text}") from error
    except RuntimeError:
        logging.getLogger("chatlab.test").exception("failed with %s", text)


@pytest.mark.parametrize("format", ["json", "text"])
@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        repr(SECRET),
        json.dumps(SECRET),
        base64.b64encode(SECRET.encode()).decode(),
    ],
)
def test_a_known_secret_is_replaced_in_events_fields_and_exceptions(
    format: logs.Format, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.begin(Settings(lab_secret=SECRET, log_level="debug"), format)
    log.info("connected", to=f"redis://x@y?{form}z")
    raise_and_log(form)
    written = capsys.readouterr().err
    assert written.count(logs.HIDDEN) == 4  # a field, an event, two exceptions
    for part in ("xyzzy", "plu", form.strip("'\"")):
        assert part not in written


def test_secrets_that_become_known_later_are_hidden_from_then_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.begin(SETTINGS)
    logs.hide("", "broker-password")
    log.info("of broker-password", why="")
    assert records(capsys)[0]["event"] == f"of {logs.HIDDEN}"


URLS = {
    "rabbitmq_url": "amqp://ana:p%2Fone@h:1/v",
    "management_url": "http://ana:ptwo@h:2",
    "redis_url": "rediss://:pthree@h:3/0",
}


def test_the_secrets_of_settings_are_those_in_urls_and_the_labs() -> None:
    found = logs.secrets_of(Settings(**URLS, lab_secret="four"))
    assert set(found) == {"p%2Fone", "p/one", "ptwo", "pthree", "four"}
    assert logs.secrets_of(Settings(redis_url="redis://[broken")) == []


KEY = b"k" * 32


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at amqp://ana:unknown@h:5672/v.", "at amqp://ana:***@h:5672/v."),
        ("redis://:un/known#1@2@h now", "redis://:***@h now"),
        ("chatlab://chat?redis_url=redis%3A%2F%2Fa%3Ab%40h x", "chatlab://chat?*** x"),
        (f"token {sessions.issue(KEY, Session('ana', 3))}!", "token ***!"),
        (f"secret={'0123abcd' * 4}", "secret=***"),
        (
            "http://127.0.0.1:15672/api and user@host",
            "http://127.0.0.1:15672/api and user@host",
        ),
        ("id ana:1:17 at 127.0.0.1:4711", "id ana:1:17 at 127.0.0.1:4711"),
    ],
)
def test_what_looks_like_a_secret_is_replaced_and_other_things_are_not(
    text: str, shown: str
) -> None:
    assert logs.Redaction()(text) == shown


def test_no_whole_object_gets_into_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    logs.begin(SETTINGS)
    whole: Any = argparse.Namespace(secret="hush")
    log.info("claim", request=whole, ratio=float("nan"), long="x" * 5000)
    (record,) = records(capsys)
    assert (record["request"], record["ratio"]) == ("<Namespace>", "nan")
    assert len(record["long"]) == logs.FIELD_CHARACTERS + 1


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["debug", "info", "warning", "error", "other"]),
        ("warning", ["warning", "error", "other"]),
        ("error", ["error"]),
    ],
)
def test_the_level_is_that_of_chatlab_and_other_libraries_warn(
    level: str, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.begin(Settings(log_level="debug"))
    logs.begin(Settings(log_level=level))  # in place of the first
    for name in logs.LEVELS:
        getattr(log, name)(name)
    other = logging.getLogger("other")
    other.info("not this")
    other.warning("other")
    assert [record["event"] for record in records(capsys)] == shown


@pytest.mark.parametrize(
    "wrong",
    [lambda: logs.begin(Settings(log_level="loud")), lambda: logs.begin(SETTINGS, "xml")],
)
def test_a_level_or_format_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidInput, match=r"loud|xml"):
        wrong()


def test_a_log_file_is_for_its_owner_only_and_nothing_is_on_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "client.log"
    file.write_text("{}\n")
    file.chmod(0o644)
    logs.begin_file(Settings(lab_secret=SECRET, log_level="info"), file)
    log.info("open", why=SECRET)
    logs.end()
    log.info("too late")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    first, second = map(json.loads, file.read_text().splitlines())
    assert (first, second["event"], second["why"]) == ({}, "open", logs.HIDDEN)
    assert capsys.readouterr().err == ""


def test_a_log_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for path in (tmp_path / "no" / "log", tmp_path / "link"):
        with pytest.raises(InvalidInput, match=str(path)):
            logs.begin_file(SETTINGS, path)


class Gone(io.StringIO):
    def write(self, _: str) -> int:
        raise BrokenPipeError


def test_a_terminal_that_is_gone_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.begin(SETTINGS)
    with monkeypatch.context() as gone:
        gone.setattr(sys, "stderr", Gone())
        log.info("to nobody")
    log.info("on")
    assert [record["event"] for record in records(capsys)] == ["on"]


def test_without_a_beginning_nothing_is_shown() -> None:
    # In a process of its own: pytest has handlers.
    code = "from chatlab import logs; logs.of('chatlab.x').error('in a notebook')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (ended.stdout, ended.stderr) == (b"", b"")


@pytest.mark.parametrize(
    "words", [["--log-level", "debug", "list"], ["list"]], ids=["option", "file"]
)
def test_every_command_takes_the_level_of_the_option_or_the_settings(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chatlab.toml").write_text('log_level = "info"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CHATLAB_LOG_LEVEL", raising=False)
    monkeypatch.delenv("CHATLAB_CONFIG", raising=False)
    assert cli.main(words) == 0
    wanted = logging.DEBUG if "debug" in words else logging.INFO
    assert logging.getLogger("chatlab").level == wanted
