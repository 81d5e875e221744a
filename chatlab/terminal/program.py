"""Program: what the user is led through, on any :class:`~chatlab.terminal.screen.Screen`.

The name, then the menu; what it offers is in :mod:`chatlab.terminal.steps`. Every step is a
coroutine that asks for lines.
"""

from __future__ import annotations

from collections.abc import Callable

from chatlab.errors import ChatlabError, InvalidInput, NameInUse
from chatlab.messages import check_name
from chatlab.services.place import Place
from chatlab.settings import Settings
from chatlab.terminal import commands as c
from chatlab.terminal.desk import Desk
from chatlab.terminal.screen import Left, Screen
from chatlab.terminal.session import Session
from chatlab.terminal.steps import Steps
from chatlab.terminal.views import Menu, Page
from chatlab.terminal.words import said


class Program:
    """One run of the client.

    Args:
        over: called with the error when the client is ended from outside.
    """

    def __init__(
        self,
        settings: Settings,
        here: Place,
        screen: Screen,
        over: Callable[[ChatlabError], None],
    ) -> None:
        self._settings, self._here, self._screen, self._over = settings, here, screen, over
        self.session: Session | None = None

    async def run(self, name: str = "") -> None:
        """From the name to the end; :class:`Left` and :class:`Ended` end it, too."""
        session = self.session = await self._enter(name)
        try:
            await self._menu(session)
        finally:
            self._screen.say("saying goodbye …")
            await session.end()

    async def _menu(self, session: Session) -> None:
        menu = Menu(session.desk, self._here.lab)
        steps = Steps(session, self._screen)
        while True:
            session.desk.look_at(None)
            self._screen.show(menu)
            text = await self._screen.ask("choose> ", words=steps.menu_words)
            if not text.strip():
                continue
            found = c.choice(text)
            if found is not None and found[0].key == "q":
                return
            try:
                await steps.choose(text, found)
            except Left:
                continue
            except ChatlabError as error:
                self._screen.say(*said(error))

    async def _enter(self, name: str) -> Session:
        """Ask for the name until it can be had."""
        self._screen.show(Page("chatlab", ["", "Who are you?", "", *_RULES]))
        given = name
        while True:
            text = given or (await self._screen.ask("name> ")).strip()
            given = ""
            try:
                desk = Desk(check_name(text), self._screen.changed)
                session = Session(self._settings, self._here, desk, self._over)
                await self._screen.during("coming online …", session.begin())
            except (InvalidInput, NameInUse) as error:
                self._screen.say(*said(error))
            else:
                return session


_RULES = (
    "1 to 64 letters, digits, '_', '.' and '-'.",
    "A new name makes an account; its secret is kept on this computer.",
)
