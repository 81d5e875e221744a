"""Face: the terminal itself, by prompt_toolkit.

One full-screen application: a header, the view, short notes, the line that is typed, and the
bar. Messages change the view, never the typed line; statuses change in place; the terminal's
own screen comes back at the end. Keys that are typed while nothing is asked stand there when
it is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import (
    BufferControl,
    CompletionsMenu,
    ConditionalContainer,
    Dimension,
    Float,
    FloatContainer,
    FormattedTextControl,
    HSplit,
    Layout,
    Window,
)
from prompt_toolkit.layout.processors import (
    BeforeInput,
    Processor,
    Transformation,
    TransformationInput,
)
from prompt_toolkit.output import Output
from prompt_toolkit.styles import Style

from chatlab.terminal.clean import seen
from chatlab.terminal.screen import TWICE_SECONDS, Ended, Left, View
from chatlab.terminal.transcript import Transcript
from chatlab.terminal.views import Page

T = TypeVar("T")

STYLE = Style.from_dict(
    {
        "header": "reverse",
        "title": "bold",
        "time": "fg:ansibrightblack",
        "note": "fg:ansibrightblack italic",
        "mark": "fg:ansibrightblack",
        "status": "fg:ansibrightblack",
        "bad": "fg:#d55e00",
        "said": "bold",
        "bar": "reverse",
        "prompt": "bold",
    }
)
#: The screen is drawn again at most so often, and at least so often, in seconds.
DRAW_SECONDS = (0.02, 1.0)
#: The typed line grows to so many rows.
TYPED_ROWS = 6


class Face:
    """A :class:`~chatlab.terminal.screen.Screen` on a terminal.

    Args:
        bar: what the bottom line says now.
        title: what the window's title says now.
        input, output: of prompt_toolkit; None: this process's terminal.
    """

    def __init__(
        self,
        bar: Callable[[], str] = lambda: "",
        title: Callable[[], str] = lambda: "",
        input: Input | None = None,
        output: Output | None = None,
    ) -> None:
        self._bar, self._title, self._titled = bar, title, ""
        self._view: View = Page("chatlab")
        self._notes: list[str] = []
        self._prompt = ""
        self._words: Callable[[], Iterable[str]] = tuple
        self._remember = False
        self._lines: deque[str] = deque()
        self._asked: asyncio.Future[str] | None = None
        self._busy: asyncio.Future[Any] | None = None
        self._left_at = -TWICE_SECONDS
        self._leaving = self._ended = False
        self._transcript = Transcript(lambda: self._view)
        self._buffer = Buffer(
            multiline=False, completer=_Words(self), accept_handler=self._accept
        )
        self.app: Application[None] = Application(
            layout=self._layout(),
            key_bindings=self._keys(),
            style=STYLE,
            full_screen=True,
            min_redraw_interval=DRAW_SECONDS[0],
            refresh_interval=DRAW_SECONDS[1],
            before_render=lambda _: self._set_title(),
            input=input,
            output=output,
        )

    # -- as a Screen

    def show(self, view: View) -> None:
        """See :class:`~chatlab.terminal.screen.Screen`."""
        self._view = view
        self._transcript.below = 0
        self.changed()

    def say(self, *lines: str) -> None:
        """See :class:`~chatlab.terminal.screen.Screen`."""
        self._notes = [line for line in lines if line]
        self.changed()

    def changed(self) -> None:
        """See :class:`~chatlab.terminal.screen.Screen`."""
        self.app.invalidate()

    def take(self) -> str:
        """See :class:`~chatlab.terminal.screen.Screen`."""
        text, self._buffer.text = self._buffer.text, ""
        return text

    async def ask(
        self,
        prompt: str,
        default: str = "",
        words: Callable[[], Iterable[str]] = tuple,
        remember: bool = False,
    ) -> str:
        """See :class:`~chatlab.terminal.screen.Screen`."""
        self._check()
        self._prompt, self._words, self._remember = prompt, words, remember
        if default and not self._buffer.text:
            self._buffer.document = Document(default)
        self.changed()
        if self._lines:
            return self._lines.popleft()
        self._asked = asyncio.get_running_loop().create_future()
        try:
            return await self._asked
        finally:
            self._asked = None

    async def during(self, text: str, work: Awaitable[T]) -> T:
        """See :class:`~chatlab.terminal.screen.Screen`."""
        self._prompt = text + " "
        self.changed()
        doing = asyncio.ensure_future(work)
        busy: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            self._check()
            self._busy = busy
            await asyncio.wait([doing, busy], return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                busy.result()
            # Too late to cancel it: whoever asks next is told.
            self._leaving = busy.done() and busy.exception() is not None
            return await doing
        finally:
            self._busy = None
            if not doing.done():
                doing.cancel()
                await asyncio.wait([doing])

    def _check(self) -> None:
        """Raise what was asked for while nobody waited."""
        if self._ended:
            raise Ended
        if self._leaving:
            self._leaving = False
            raise Left

    # -- running

    async def run(self, program: Coroutine[Any, Any, T]) -> T:
        """Run the program in front of the terminal; when the terminal is gone, it ends."""
        talking = asyncio.ensure_future(program)
        drawing = asyncio.ensure_future(self.app.run_async(set_exception_handler=False))
        await asyncio.wait([talking, drawing], return_when=asyncio.FIRST_COMPLETED)
        self.end()
        try:
            return await talking
        finally:
            if self.app.is_running:
                self.app.exit()
            # Whatever drawing on a terminal that is gone raises, the program has ended.
            await asyncio.gather(drawing, return_exceptions=True)
            with contextlib.suppress(OSError):
                self.app.output.clear_title()
                self.app.output.flush()

    def end(self) -> None:
        """Let the program end: what it waits for raises Ended."""
        self._ended = True
        self._raise(Ended())

    def leave(self) -> None:
        """Ctrl-C or Ctrl-D: leave; the second time within two seconds: end."""
        at = asyncio.get_running_loop().time()
        twice, self._left_at = at - self._left_at < TWICE_SECONDS, at
        self._lines.clear()
        if twice:
            self.end()
        elif not self._raise(Left()):
            self._leaving = True

    def _raise(self, what: Exception) -> bool:
        """In whoever waits; False when nobody does."""
        for waiter in (self._asked, self._busy):
            if waiter is not None and not waiter.done():
                waiter.set_exception(what)
                return True
        return False

    def _accept(self, buffer: Buffer) -> bool:
        """Enter: hand the line over, and remember it where that is wanted."""
        text = buffer.text
        self._notes = []
        self._transcript.below = 0
        self._left_at = -TWICE_SECONDS  # what comes now is a first Ctrl-C
        buffer.reset(append_to_history=self._remember and bool(text))
        if self._asked is not None and not self._asked.done():
            self._asked.set_result(text)
        else:
            self._lines.append(text)
        return True

    # -- what is on the screen

    def _layout(self) -> Layout:
        noted = Condition(lambda: bool(self._notes))
        looks = [_Seen(), BeforeInput(lambda: self._prompt, "class:prompt")]
        typed = Window(
            BufferControl(self._buffer, input_processors=looks),
            height=Dimension(min=1, max=TYPED_ROWS),
            wrap_lines=True,
            dont_extend_height=True,
        )
        rows = HSplit(
            [
                Window(FormattedTextControl(self._header), height=1, style="class:header"),
                Window(self._transcript),
                ConditionalContainer(
                    Window(
                        FormattedTextControl(lambda: "\n".join(self._notes)),
                        style="class:said",
                        wrap_lines=True,
                        dont_extend_height=True,
                    ),
                    noted,
                ),
                typed,
                Window(FormattedTextControl(self._bottom), height=1, style="class:bar"),
            ]
        )
        floats = [Float(CompletionsMenu(max_height=8), xcursor=True, ycursor=True)]
        return Layout(FloatContainer(rows, floats), focused_element=typed)

    def _header(self) -> StyleAndTextTuples:
        below = self._transcript.below
        more = [("", f"   ↓ {below} more rows (PageDown)")] if below else []
        return [("", " "), *self._view.header(), *more]

    def _bottom(self) -> str:
        return f" {self._bar()}"

    def _set_title(self) -> None:
        title = self._title()
        if title != self._titled:
            self._titled = title
            self.app.output.set_title(title)

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("c-c", eager=True)
        @keys.add("c-d", eager=True)
        @keys.add("<sigint>")
        def _leave(_event: KeyPressEvent) -> None:
            self.leave()

        @keys.add("<vt100-mouse-event>", eager=True)
        def _nothing(_event: KeyPressEvent) -> None:
            """What only looks like a mouse's report; the mouse is the terminal's own."""

        @keys.add("pageup", eager=True)
        def _older(_event: KeyPressEvent) -> None:
            self._transcript.older()

        @keys.add("pagedown", eager=True)
        def _newer(_event: KeyPressEvent) -> None:
            self._transcript.newer()

        return keys


class _Seen(Processor):
    """What was pasted is seen, too; one for one, so that the cursor stands right."""

    def apply_transformation(self, transformation_input: TransformationInput) -> Transformation:
        pieces = transformation_input.fragments
        return Transformation([(piece[0], seen(piece[1])) for piece in pieces])


class _Words(Completer):
    """Offers the words of what is asked that begin as the typed one does."""

    def __init__(self, face: Face) -> None:
        self._face = face

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        begun = document.get_word_before_cursor(WORD=True)
        for word in dict.fromkeys(self._face._words()):
            if word.startswith(begun):
                yield Completion(word, start_position=-len(begun))
