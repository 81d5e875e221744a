"""What JupyterLab itself gets from chatlab: an entry in its launcher, and brokers warmed up.

::

    __init__.py   what Jupyter finds, by the entry point and the file in ``look/chatlab.json``
    page.py       the process behind the launcher's entry "RabbitMQ"
    looking.py    its lease on the brokers, and the account that may only look
    warm.py       brokers are started in the background when Jupyter starts

This module is loaded by every Jupyter server of the environment, so it imports next to
nothing, and nothing of it may keep a server from starting.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

LOOK = Path(__file__).parent / "look"
#: The process listens at once; Python's start on a busy machine is what takes time.
READY_SECONDS = 30


def rabbitmq_page() -> dict[str, Any]:
    """The launcher's entry, as jupyter-server-proxy wants it described
    (https://jupyter-server-proxy.readthedocs.io/en/latest/server-process.html).

    The process listens on a socket in a folder that only this user can enter: a port of
    loopback would show the page to everybody on this computer.
    """
    return {
        "command": [sys.executable, "-m", "chatlab.jupyter.page", "{unix_socket}"],
        "unix_socket": True,
        "timeout": READY_SECONDS,
        "new_browser_tab": False,
        # The page asks for news every five seconds; a forgotten one is nobody's activity.
        "update_last_activity": False,
        "launcher_entry": {
            "title": "RabbitMQ",
            "path_info": "rabbitmq/#/queues",
            "icon_path": str(LOOK / "rabbitmq.svg"),
            # JupyterLab shows the pictures of this section and of "Console" only.
            "category": "Notebook",
        },
    }


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "chatlab.jupyter"}]


def _load_jupyter_server_extension(app: Any) -> None:
    from chatlab.jupyter.warm import at_start

    at_start(app.log)
