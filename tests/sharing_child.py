"""Another computer: a kernel with a folder, hence a supervisor, of its own.

Reads ``[verb, argument, …]`` a line, answers JSON a line; ends with its standard input.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from chatlab.errors import ChatlabError
from chatlab.lab import Lab


class Computer:
    def __init__(self) -> None:
        self.lab: Any = None

    def start(self, name: str) -> str:
        self.lab = Lab.start(name, shared=True)
        return repr(self.lab)

    def join(self, url: str) -> str:
        self.lab = Lab.join(url)
        return repr(self.lab)

    def user(self, name: str) -> None:
        self.lab.user(name)

    def users(self, via: str) -> list[str]:
        return list(self.lab.discover(via=via).users)

    def send(self, user: str, group: str, body: str) -> int:
        return int(self.lab.user(user).join(group).send(body).listeners)

    def first(self, user: str, group: str, number: str) -> list[str]:
        shown = self.lab.user(user).join(group).wait(int(number), timeout=20)
        return [message.body for message in shown]

    def mailbox(self, user: str, peer: str, body: str) -> str:
        return str(self.lab.user(user).private_chat(peer).send(body).outcome)

    def scene(self, name: str) -> None:
        self.lab.scene(name)

    def close(self) -> None:
        self.lab.close()


def main() -> None:
    computer = Computer()
    for line in sys.stdin:
        verb, *arguments = json.loads(line)
        try:
            answer = {"ok": getattr(computer, verb)(*arguments)}
        except ChatlabError as error:
            answer = {"error": type(error).__name__, "text": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
