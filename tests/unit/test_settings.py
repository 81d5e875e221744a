"""Settings from defaults, a file and the environment."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from chatlab import settings as module
from chatlab.errors import InvalidInput
from chatlab.settings import Settings

SECRET = "a-rather-secret-word"


@pytest.fixture(autouse=True)
def no_file_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        module.platformdirs, "user_config_dir", lambda *_, **__: str(tmp_path / "config")
    )


def a_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "some.toml"
    path.write_text(text)
    return path


def test_without_anything_the_defaults_hold() -> None:
    assert Settings.load({}) == Settings()


def test_the_environment_wins_over_the_file_and_the_file_over_the_defaults(
    tmp_path: Path,
) -> None:
    file = a_file(tmp_path, 'redis_url = "redis://file"\nsend_seconds = 7\nidle_seconds = 8')
    loaded = Settings.load({"CHATLAB_SEND_SECONDS": "9.5", "CHATLAB_REDIS_URL": ""}, file)
    assert (loaded.redis_url, loaded.send_seconds, loaded.idle_seconds) == (
        "redis://file",
        9.5,
        8.0,
    )
    assert isinstance(loaded.idle_seconds, float)
    assert loaded.lease_seconds == Settings().lease_seconds


def test_a_file_is_found_by_name_then_here_then_in_the_configuration_folder(
    tmp_path: Path,
) -> None:
    def load(**environ: str) -> float:
        return Settings.load(environ).send_seconds

    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "chatlab.toml").write_text("send_seconds = 1")
    assert load() == 1
    (tmp_path / "chatlab.toml").write_text("send_seconds = 2")
    assert load() == 2
    assert load(CHATLAB_CONFIG=str(a_file(tmp_path, "send_seconds = 3"))) == 3
    with pytest.raises(InvalidInput, match="CHATLAB_CONFIG"):
        load(CHATLAB_CONFIG=str(tmp_path / "nowhere"))


@pytest.mark.parametrize("text", ["send_secnds = 1", "[send_seconds]\nx = 1"])
def test_what_a_file_may_not_set_is_refused_by_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidInput, match="send_sec"):
        Settings.load({}, a_file(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SEND_SECONDS", "soon"),
        ("SEND_SECONDS", "0"),
        ("SEND_SECONDS", "-1"),
        ("SEND_SECONDS", "nan"),
        ("HEARTBEAT_SECONDS", "3.5"),
        ("HEARTBEAT_SECONDS", "0"),
        ("SERVER_PORT", "-1"),
        ("INVITED", "perhaps"),
    ],
)
def test_a_wrong_number_is_refused_by_name_and_value(name: str, value: str) -> None:
    with pytest.raises(InvalidInput, match=f"{name.lower()} must be .*{value}"):
        Settings.load({f"CHATLAB_{name}": value})


@pytest.mark.parametrize(
    "text", ["heartbeat_seconds = 3.5", "send_seconds = true", "send_seconds = []"]
)
def test_a_value_of_another_type_in_the_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidInput, match="must be"):
        Settings.load({}, a_file(tmp_path, text))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for text in (b"send_seconds = ", b"\xff"):
        path = tmp_path / "bad.toml"
        path.write_bytes(text)
        with pytest.raises(InvalidInput, match=r"bad\.toml is not valid TOML"):
            Settings.load({}, path)
    with pytest.raises(InvalidInput, match="cannot be read"):
        Settings.load({}, tmp_path)


def test_a_folder_is_absolute_and_knows_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Settings.load({"CHATLAB_FOLDER": "~/lab"}).folder == tmp_path / "home" / "lab"
    assert Settings.load({"CHATLAB_FOLDER": "lab"}).folder == tmp_path / "lab"


def test_a_secret_is_shown_nowhere(tmp_path: Path) -> None:
    url = f"amqp://ana:{SECRET}@host/"
    urls = {"rabbitmq_url": url, "management_url": url, "redis_url": url}
    assert SECRET not in repr(Settings(**urls, lab_secret=SECRET))  # type: ignore[arg-type]
    for line in (f'redis_url = ["{url}"]', f'lab_secret = ["{SECRET}"]'):
        with pytest.raises(InvalidInput) as caught:
            Settings.load({}, a_file(tmp_path, line))
        assert SECRET not in f"{caught.value!r} {caught.value}"


def test_the_labs_secret_comes_from_the_file_or_the_environment(tmp_path: Path) -> None:
    file = a_file(tmp_path, 'lab_secret = "of the file"')
    assert Settings.load({}, file).lab_secret == "of the file"
    assert Settings.load({"CHATLAB_LAB_SECRET": SECRET}, file).lab_secret == SECRET
    assert Settings.load({}).lab_secret == ""


def test_a_child_process_gets_the_same_settings(tmp_path: Path) -> None:
    numbers = {
        f.name: 11 + i for i, f in enumerate(fields(Settings)) if f.type in ("int", "float")
    }
    texts = {"redis_url": "redis://x", "lab_secret": SECRET}
    parent = Settings(folder=tmp_path, **texts, **numbers)  # type: ignore[arg-type]
    assert Settings.load(parent.as_environ()) == parent


def test_settings_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().send_seconds = 1  # type: ignore[misc]


def test_a_default_of_the_environment_gives_way_to_the_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHATLAB_TEST_A", "of the user")
    monkeypatch.setenv("CHATLAB_TEST_B", "x")
    monkeypatch.delenv("CHATLAB_TEST_B")
    module.default_environ("CHATLAB_TEST_A", "default")
    module.default_environ("CHATLAB_TEST_B", "default")
    environ = module.child_environ({"CHATLAB_TEST_C": "extra"})
    assert [environ[f"CHATLAB_TEST_{letter}"] for letter in "ABC"] == [
        "of the user",
        "default",
        "extra",
    ]


def test_any_port_and_yes_or_no_are_read_from_text_as_well_as_from_a_file(
    tmp_path: Path,
) -> None:
    file = a_file(tmp_path, "server_port = 0\ninvited = true")
    for found in (
        Settings.load({}, file),
        Settings.load({"CHATLAB_SERVER_PORT": "0", "CHATLAB_INVITED": "yes"}),
        Settings.load(Settings(invited=True).as_environ()),
    ):
        assert (found.server_port, found.invited) == (0, True)
