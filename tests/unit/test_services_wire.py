"""Where clients and the supervisor meet, and what travels between them."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from chatlab import errors
from chatlab.errors import NotPossible, ServiceUnavailable
from chatlab.services import wire
from chatlab.services.broker import PortTaken
from chatlab.settings import Settings


def folder_of(text: str) -> Path:
    return wire.run_folder(Settings(folder=Path(text)))


def test_the_folder_lies_in_the_settings_folder_and_names_the_protocol() -> None:
    assert folder_of("/home/ana/.cache/chatlab") == Path(
        f"/home/ana/.cache/chatlab/run-v{wire.PROTOCOL}"
    )


@pytest.mark.parametrize(
    "text",
    ["/home/ana/" + "x" * 90, "/home/ana/my files", "/home/josé", "/home/a[1]", "/home/a*"],
)
def test_a_path_that_a_broker_would_stumble_over_is_replaced_by_a_short_one(text: str) -> None:
    folder = folder_of(text)
    assert len(os.fsencode(folder / wire.SOCKET)) < wire.SOCKET_PATH_BYTES
    assert str(folder).startswith(f"/tmp/chatlab-{os.getuid()}-")
    assert folder == folder_of(text)
    assert folder != folder_of(text + "2")


def test_the_folder_is_made_private_and_somebody_elses_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a" / "run"
    wire.make_private(folder)
    folder.chmod(0o755)
    wire.make_private(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(ServiceUnavailable):
        wire.make_private(link)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(ServiceUnavailable, match="not a folder of yours"):
        wire.make_private(folder)


def test_errors_keep_their_class_and_three_lines() -> None:
    sent = NotPossible("what", "effect", "todo")
    received = wire.decode_error(wire.encode_error(sent))
    assert type(received) is NotPossible
    assert str(received) == str(sent)


def test_an_error_that_others_do_not_know_travels_as_its_nearest_known_class() -> None:
    assert type(wire.decode_error(wire.encode_error(PortTaken("x")))) is ServiceUnavailable
    assert type(wire.decode_error(["annotations", "x", "", ""])) is ServiceUnavailable
    assert type(wire.decode_error(["NO_EFFECT", "x", "", ""])) is ServiceUnavailable


def test_every_error_of_chatlab_survives_the_way() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.ChatlabError)
    ]
    for kind in kinds:
        assert type(wire.decode_error(wire.encode_error(kind("x")))) is kind


async def test_lines_arrive_as_they_were_posted_and_nonsense_ends_the_channel(
    tmp_path: Path,
) -> None:
    received: asyncio.Queue[object] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        channel = wire.Channel(reader, writer)
        while (value := await channel.receive()) is not None:
            received.put_nowait(value)
        received.put_nowait("end")
        await channel.close()

    server = await asyncio.start_unix_server(serve, str(tmp_path / wire.SOCKET))
    channel = await wire.dial(tmp_path)
    assert channel is not None
    channel.post({"id": 1, "text": "ü\n"})
    assert await received.get() == {"id": 1, "text": "ü\n"}
    channel._writer.write(b"no json\n")
    assert await received.get() == "end"
    assert await channel.receive() is None
    await channel.close()
    server.close()
    await server.wait_closed()


async def test_nobody_listening_is_no_error(tmp_path: Path) -> None:
    assert await wire.dial(tmp_path) is None
