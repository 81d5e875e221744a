"""Toolbar of a stage: which lab it is, how its services are, and the buttons that break them.

The buttons are about the service that keeps the group's messages. *Kill* is SIGKILL, and the
service is started again at once, as whoever runs one has it done: so there is something to
watch (who sends meanwhile, what comes back) and no lecture goes on with a dead broker. Down it
stays only when a cell killed it; then there is *start* in place of *kill*. Who wants a silence
as long as a sentence pauses it. A button that cannot be pressed says why in its title.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from chatlab.errors import NotPossible
from chatlab.panels.lookout import Lookout, Seen
from chatlab.panels.panel import Panel, look_of
from chatlab.panels.stores import keeper_of
from chatlab.plots.words import backend_words
from chatlab.tables import Table

if TYPE_CHECKING:
    from chatlab.lab import User
    from chatlab.lab.controls import Service

Button = dict[str, Any]

_SHARED = 'Other notebooks use it too: Lab.start("…", breakable=True) has services of its own.'
_IN_MEMORY = "The group is in the memory of this process: there is no service to break."


class Toolbar(Panel):
    """Part of a :class:`chatlab.panels.stage.Stage`.

    Args:
        lookout: sees the services.
        user: whose link can be cut.
    """

    _esm = look_of("toolbar.js")
    _css = look_of("toolbar.css")
    VERBS = frozenset({"kill", "start", "restart", "pause", "resume", "cut", "heal"})

    def __init__(self, lookout: Lookout, user: User) -> None:
        self._lookout, self._user = lookout, user
        self._doing = ""
        super().__init__(lookout.lab, lookout.situation.group)
        self.begin()

    # -- what is shown

    def look(self) -> dict[str, Any]:
        situation = self._lookout.situation.follow(self.lab.journal)
        return {
            "lab": self.lab.name,
            "what": self._what(),
            "backend": situation.backend,
            "buttons": [*self._breaking(), *self._link()],
            "services": list(self._services()),
        }

    def _what(self) -> str:
        backend = self._lookout.situation.backend
        kind = backend_words(backend) if backend else "no group yet"
        own = "own broker" if self.lab.breakable else "shared broker"
        return f"{kind} · {own}"

    def _services(self) -> Iterator[dict[str, str]]:
        lease = self.lab.lease
        programs = {
            "rabbitmq": ("RabbitMQ", lease.rabbitmq.version),
            "redis": (lease.redis.product, lease.redis.version),
            "server": ("server", ""),
        }
        for name, (program, version) in programs.items():
            seen = self._lookout.services[name]
            word = "" if seen.state == "up" else seen.back() or seen.state
            yield {
                "key": name,
                "name": program,
                "version": version,
                "state": seen.state.replace(" ", "-"),
                "word": word,
                "title": f"{program} {version}".strip()
                + f": {word or 'up'}"
                + (" (it is not ours)" if seen.state == "not watched" else ""),
            }

    def _target(self) -> tuple[str, str]:
        """The service that keeps the group, and what it is called."""
        backend = self._lookout.situation.backend
        keeper = keeper_of(backend) if backend else "rabbitmq"
        names = {"rabbitmq": "RabbitMQ", "redis": self.lab.lease.redis.product}
        return keeper, names.get(keeper, "broker")

    def _breaking(self) -> Iterator[Button]:
        keeper, name = self._target()
        seen = self._lookout.services.get(keeper, Seen())
        why = self._why_not(keeper)
        paused, down = seen.state == "paused", seen.state == "down"
        if down:
            yield _button(f"start {name}", "start", why, f"start {name} again with its data")
        else:
            first = why or (f"{name} is paused: resume it first" if paused else "")
            told = f"SIGKILL: no goodbye. {name} is started again at once"
            yield _button(f"kill {name}", "kill", first, told) | {"danger": True}
        first = why or (f"{name} is {seen.state}" if paused or down else "")
        yield _button("restart", "restart", first, f"stop {name} in order and start it again")
        if paused:
            yield _button("resume", "resume", why, f"{name} goes on")
        else:
            first = why or (f"{name} is down" if down else "")
            yield _button("pause", "pause", first, f"SIGSTOP: {name} is there and is silent")

    def _why_not(self, keeper: str) -> str:
        """Why nothing can be broken now; empty: it can."""
        if keeper == "memory":
            return _IN_MEMORY
        if not self.lab.breakable:
            return _SHARED
        state = self._lookout.services[keeper].state
        if self._doing:
            return f"Under way: {self._doing}"
        return "It is just starting" if state == "starting" else ""

    def _link(self) -> Iterator[Button]:
        user, keeper = self._user.name, self._target()[0]
        if self._lookout.situation.cut(user):
            yield _button(f"heal {user}'s link", "heal", "", f"{user} reaches all services")
            return
        why = _IN_MEMORY if keeper == "memory" else ""
        if not self.lab.links:
            why = "This lab runs without links: Lab.start(…, links=True) has them."
        told = f"reset {user}'s connections to {self._target()[1]} and refuse new ones"
        yield _button(f"cut {user}'s link", "cut", why, told)

    def table(self) -> Table:
        """The services: name, version, state, how long the last start took."""
        return Table(
            (
                {
                    "service": each["name"],
                    "version": each["version"],
                    "state": self._lookout.services[each["key"]].state,
                    "last start": self._lookout.services[each["key"]].boot_seconds or None,
                }
                for each in self._services()
            ),
            f"services of the lab {self.lab.name}",
        )

    # -- what can be done

    @property
    def _service(self) -> Service:
        keeper, _ = self._target()
        if keeper == "memory":
            raise NotPossible(_IN_MEMORY)
        service: Service = getattr(self.lab, keeper)
        return service

    def do_kill(self) -> None:
        """SIGKILL, and start it again; returns when it answers."""
        service = self._service
        with _Doing(self, "kill"):
            service.kill()
            self._lookout.saw(service.name, "starting")
            service.start()
            self._lookout.saw(service.name, "up")

    def do_start(self) -> None:
        """Start it again; returns when it answers."""
        with _Doing(self, "start"):
            self._service.start()

    def do_restart(self) -> None:
        """An orderly stop and a start; returns when it answers."""
        with _Doing(self, "restart"):
            self._service.restart()

    def do_pause(self) -> None:
        """SIGSTOP."""
        self._service.pause()
        self._lookout.saw(self._service.name, "paused")

    def do_resume(self) -> None:
        """It goes on."""
        self._service.resume()
        self._lookout.saw(self._service.name, "up")

    def do_cut(self) -> None:
        """Cut the user's link to the service that keeps the group."""
        self.lab.cut(self._user, self._service.name)

    def do_heal(self) -> None:
        """The user's links are whole again."""
        self.lab.heal(self._user)


class _Doing:
    """While a verb is under way, no other one can be asked for."""

    def __init__(self, toolbar: Toolbar, what: str) -> None:
        self._toolbar, self._what = toolbar, what

    def __enter__(self) -> None:
        self._toolbar._doing = self._what

    def __exit__(self, *_: object) -> None:
        self._toolbar._doing = ""


def _button(label: str, verb: str, why_not: str, told: str) -> Button:
    """A button; with ``why_not`` it cannot be pressed and says so."""
    return {"label": label, "do": verb, "on": not why_not, "title": why_not or told}
