"""The terminal client's face: wrapping, and asking by prompt_toolkit without a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput
from prompt_toolkit.utils import get_cwidth

from chatlab.terminal.conversation import Line, Piece
from chatlab.terminal.face import Face
from chatlab.terminal.screen import Ended, Left
from chatlab.terminal.transcript import INDENT, Transcript, wrap
from chatlab.terminal.views import Page

#: What a test waits for comes by then, in seconds.
PATIENCE = 5.0


def texts(rows: list[list[Piece]]) -> list[str]:
    return ["".join(text for _, text in row) for row in rows]


# -- wrapping


def test_a_long_line_is_cut_between_words_and_set_in() -> None:
    rows = texts(
        wrap([("t", "12:00:00 "), ("n", "bob"), ("", "  one two three four five")], 24)
    )
    assert rows == ["12:00:00 bob  one two ", " " * INDENT + "three four five"]


def test_what_has_no_words_is_cut_where_it_must_and_nothing_is_lost() -> None:
    rows = texts(wrap([("", "x" * 65_536)], 80))
    assert max(map(len, rows)) == 80
    assert "".join(row.strip() for row in rows) == "x" * 65_536


def test_wide_characters_take_two_columns_and_styles_go_on() -> None:
    rows = wrap([("a", "漢" * 30), ("b", "字" * 30)], 40)
    assert max(sum(map(get_cwidth, row)) for row in texts(rows)) <= 40
    assert sum(text.count("字") for row in rows for style, text in row if style == "b") == 30


def numbered(count: int) -> Page:
    return Page("t", [f"line {n}" for n in range(count)])


def test_the_newest_rows_are_seen_and_older_ones_when_asked_for() -> None:
    view = numbered(100)
    transcript = Transcript(lambda: view)
    assert texts(transcript.rows(40, 3)) == ["line 97", "line 98", "line 99"]
    transcript.create_content(40, 3)
    transcript.older()
    assert texts(transcript.rows(40, 3)) == ["line 95", "line 96", "line 97"]
    view._lines += [Line(0.0, "new"), Line(0.0, "newer")]  # they do not carry the reader away
    assert texts(transcript.rows(40, 3)) == ["line 95", "line 96", "line 97"]
    for _ in range(60):
        transcript.older()
    assert texts(transcript.rows(40, 3))[0] == "line 0"
    for _ in range(60):
        transcript.newer()
    assert texts(transcript.rows(40, 3))[-1] == "newer"


def test_a_view_shorter_than_the_window_begins_at_the_top() -> None:
    view = numbered(2)
    transcript = Transcript(lambda: view)
    transcript.create_content(40, 5)
    transcript.older()
    assert texts(transcript.rows(40, 5)) == ["line 0", "line 1"]
    assert transcript.below == 0


def test_a_line_that_changes_is_wrapped_anew() -> None:
    line = Line(0.0, "before")
    view = Page("t")
    view._lines = [line]
    transcript = Transcript(lambda: view)
    assert texts(transcript.rows(40, 5)) == ["before"]
    line.text = "after"
    assert texts(transcript.rows(40, 5)) == ["after"]


# -- asking

Typing = Callable[[Face, PipeInput], Coroutine[Any, Any, Any]]


async def on_a_face(program: Typing) -> Any:
    """Run ``program`` on a face whose keys come through a pipe."""
    with create_pipe_input() as keys:
        face = Face(input=keys, output=DummyOutput())
        async with asyncio.timeout(PATIENCE):
            return await face.run(program(face, keys))


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 (keys come through another file)
        await asyncio.sleep(0.005)


@asynccontextmanager
async def asked(face: Face, **options: Any) -> AsyncIterator[asyncio.Task[str]]:
    """A question that waits for its answer."""
    asking = asyncio.create_task(face.ask("> ", **options))
    await until(lambda: face._asked is not None)
    yield asking


async def test_a_line_is_the_answer_and_one_typed_ahead_that_of_the_next() -> None:
    async def program(face: Face, keys: PipeInput) -> list[str]:
        keys.send_text("one\rtwo\rthr")
        first = [await face.ask("> "), await face.ask("> ")]
        keys.send_text("ee\r")
        return [*first, await face.ask("> ")]

    assert await on_a_face(program) == ["one", "two", "three"]


async def test_a_default_stands_there_but_never_over_what_is_typed() -> None:
    async def program(face: Face, keys: PipeInput) -> list[str]:
        async with asked(face, default="again") as asking:
            keys.send_text("!\r")
            first = await asking
        keys.send_text("mine")
        await until(lambda: face._buffer.text == "mine")
        async with asked(face, default="default") as asking:
            keys.send_text("\r")
            return [first, await asking]

    assert await on_a_face(program) == ["again!", "mine"]


async def test_what_happens_meanwhile_leaves_the_typed_line_alone() -> None:
    async def program(face: Face, keys: PipeInput) -> str:
        async with asked(face) as asking:
            keys.send_text("half a ")
            await until(lambda: face._buffer.text == "half a ")
            face.show(numbered(5))
            face.say("a note")
            face.changed()
            keys.send_text("line\r")
            return await asking

    assert await on_a_face(program) == "half a line"


@pytest.mark.parametrize("key", ["\x03", "\x04"])
async def test_one_ctrl_c_or_d_leaves_and_the_typed_text_can_be_kept(key: str) -> None:
    async def program(face: Face, keys: PipeInput) -> str:
        async with asked(face) as asking:
            keys.send_text("draft" + key)
            with pytest.raises(Left):
                await asking
        return face.take()

    assert await on_a_face(program) == "draft"


async def test_a_second_ctrl_c_soon_after_ends_whatever_is_asked_then() -> None:
    async def program(face: Face, keys: PipeInput) -> None:
        async with asked(face) as asking:
            keys.send_text("\x03")
            with pytest.raises(Left):
                await asking
        async with asked(face) as asking:
            keys.send_text("\x03")
            await asking

    with pytest.raises(Ended):
        await on_a_face(program)


async def test_two_ctrl_c_with_time_between_only_leave_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chatlab.terminal.face.TWICE_SECONDS", 0.0)

    async def program(face: Face, keys: PipeInput) -> str:
        for _ in range(2):
            async with asked(face) as asking:
                keys.send_text("\x03")
                with pytest.raises(Left):
                    await asking
        return "still here"

    assert await on_a_face(program) == "still here"


async def test_a_line_between_two_ctrl_c_makes_them_two_first_ones() -> None:
    async def program(face: Face, keys: PipeInput) -> str:
        for _ in range(2):
            async with asked(face) as asking:
                keys.send_text("\x03")
                with pytest.raises(Left):
                    await asking
            async with asked(face) as asking:
                keys.send_text("line\r")
                await asking
        return "still here"

    assert await on_a_face(program) == "still here"


async def forever(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        ended.append("cancelled")
        raise


async def test_leaving_cancels_what_is_waited_for() -> None:
    ended: list[str] = []

    async def program(face: Face, keys: PipeInput) -> None:
        waiting = asyncio.create_task(face.during("connecting …", forever(ended)))
        await until(lambda: face._busy is not None)
        keys.send_text("\x03")
        with pytest.raises(Left):
            await waiting

    await on_a_face(program)
    assert ended == ["cancelled"]


async def test_leaving_that_comes_too_late_is_told_to_who_asks_next() -> None:
    async def program(face: Face, keys: PipeInput) -> str:
        async def work() -> str:
            face.leave()
            return "done"

        done = await face.during("…", work())
        with pytest.raises(Left):
            await face.ask("> ")
        return done

    assert await on_a_face(program) == "done"


@pytest.mark.parametrize("waits", ["ask", "during"])
async def test_the_end_reaches_who_waits_and_who_waits_next(waits: str) -> None:
    async def program(face: Face, keys: PipeInput) -> None:
        ask = waits == "ask"
        waiting: Awaitable[Any] = face.ask("> ") if ask else face.during("…", forever([]))
        asyncio.get_running_loop().call_soon(face.end)
        with pytest.raises(Ended):
            await waiting
        await face.ask("> ")

    with pytest.raises(Ended):
        await on_a_face(program)


async def test_a_terminal_that_is_gone_ends_the_program() -> None:
    async def program(face: Face, keys: PipeInput) -> None:
        async with asked(face) as asking:
            keys.close()
            face.app.exit(exception=EOFError)  # what prompt_toolkit does then
            await asking

    with pytest.raises(Ended):
        await on_a_face(program)


async def test_tab_offers_words_that_begin_so() -> None:
    async def program(face: Face, keys: PipeInput) -> str:
        async with asked(face, words=lambda: ["anabel", "bob"]) as asking:
            keys.send_text("2 an\t")
            await until(lambda: face._buffer.text == "2 anabel")
            keys.send_text("\r")
            return await asking

    assert await on_a_face(program) == "2 anabel"


async def test_only_messages_are_found_again_with_the_arrow_keys() -> None:
    async def program(face: Face, keys: PipeInput) -> str:
        for text, remember in (("message", True), ("command", False)):
            async with asked(face, remember=remember) as asking:
                keys.send_text(f"{text}\r")
                await asking
        async with asked(face) as asking:
            keys.send_text("\x1b[A")
            await until(lambda: bool(face._buffer.text))
            keys.send_text("\r")
            return await asking

    assert await on_a_face(program) == "message"


async def test_keys_that_look_like_a_mouse_do_no_harm() -> None:
    async def program(face: Face, keys: PipeInput) -> str:
        keys.send_text("\x1b[31mred\r")
        return await face.ask("> ")

    assert await on_a_face(program) == "red"
