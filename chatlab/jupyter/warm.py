"""Brokers warmed up: started in the background when Jupyter starts.

RabbitMQ boots in 5 to 15 s. A reader needs longer than that to open a notebook and read its
first lines, so the boot is over when the first cell asks for it. It is done by ``chatlab up``
in a process of its own, whose words go to a log file; Jupyter neither waits for it nor is hurt
by what goes wrong there. The brokers stop as they always do, ``idle_seconds`` after the last
use.

Nothing is done with ``CHATLAB_WARM=no``, nor with a RabbitMQ of one's own.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading

from chatlab.errors import ChatlabError
from chatlab.settings import Settings

#: In the folder of the settings; begins anew with every Jupyter.
LOG = "warm.log"


def at_start(log: logging.Logger | logging.LoggerAdapter[logging.Logger]) -> None:
    """Warm the brokers up, if that is wanted; trouble is a line in Jupyter's log."""
    try:
        settings = Settings.load()
        if wanted(settings):
            start(settings)
    except (ChatlabError, OSError) as error:
        log.warning("chatlab could not start its brokers in the background: %s", error)


def wanted(settings: Settings) -> bool:
    """Whether there is something to warm up."""
    return settings.warm and not settings.rabbitmq_url and not settings.invited


def start(settings: Settings) -> subprocess.Popen[bytes]:
    """Run ``chatlab up`` detached from this process, and return at once.

    Raises:
        OSError: the log file cannot be written, or the process not be started.
    """
    settings.folder.mkdir(parents=True, exist_ok=True)
    with (settings.folder / LOG).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "chatlab", "up"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in Jupyter's terminal is not meant for it
        )
    # Somebody has to take its exit status, or it stays a zombie as long as Jupyter runs.
    threading.Thread(target=process.wait, name="chatlab up", daemon=True).start()
    return process
