"""The command line of outside clients and brokers of one's own, without a service."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatlab import cli, experiments
from chatlab.settings import Settings

CLIENTS = Path(__file__).parents[1] / "outside_clients"


def test_a_dry_run_prints_a_table_and_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    urls = ["--rabbitmq-url", "amqp://me:hush@127.0.0.1:9/mine"]
    assert cli.main(["run", "burst", "--backend", "rabbitmq-durable", "--dry-run", *urls]) == 0
    shown = capsys.readouterr().out
    assert "chatlab-<run>.burst" in shown
    assert "virtual host" not in shown
    assert "hush" not in shown


def test_a_dry_run_of_a_grid_lists_what_all_of_it_declares(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["matrix", "burst", "late-joiner", "--backend", "group/rabbitmq-log", "--dry-run"]
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    assert "virtual host  chatlab-<run>" in shown
    assert "chatlab/burst/ana" in shown
    assert "chatlab/late-joiner" in shown


def test_a_client_takes_the_place_of_a_backend(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, object] = {}

    def run(scenario: str, backend: str, **options: object) -> object:
        given.update(options, backend=backend)
        raise experiments.runner.InvalidInput("enough")

    monkeypatch.setattr(experiments, "run", run)
    urls = ["--rabbitmq-url", "amqp://here", "--fault", "docker kill rmq", "--heal", "x"]
    assert cli.main(["run", "burst", "--client", "a.py:A", *urls]) == 3
    assert (given["backend"], given["client"]) == ("", "a.py:A")
    assert (given["fault"], given["heal"]) == ("docker kill rmq", "x")
    settings = given["settings"]
    assert isinstance(settings, Settings)
    assert settings.rabbitmq_url == "amqp://here"


def test_a_run_is_on_a_backend_or_on_a_client(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--client", "a.py:A", "--backend", "rabbitmq"]):
        with pytest.raises(SystemExit):
            cli.main(["run", "burst", *words])
    assert "--client" in capsys.readouterr().err


def test_a_scenario_that_is_not_for_the_clients_pattern_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = f"{CLIENTS}/insults.py:Insults"
    assert cli.main(["run", "late-joiner", "--client", client]) == 3
    assert "Insults, which is a client of the pattern insults" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--fault", "true"], "all of these are chatlab's"),
        (["--heal", "true", "--redis-url", "redis://here"], "needs a fault command"),
    ],
)
def test_commands_that_would_break_nothing_are_refused(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert cli.main(["run", "broker-kill", "--backend", "rabbitmq-durable", *words]) == 3
    assert said in capsys.readouterr().err
