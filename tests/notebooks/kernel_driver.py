"""Drives Jupyter kernels and prints what happened as JSON; run as a process by test_kernels.

A process of its own, because Jupyter's clients leave event loops and sockets to the garbage
collector, which the tests' own warnings filter would not forgive.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager, KernelManager
from nbclient import NotebookClient

BEGIN = """
from chatlab import Lab
lab = Lab.start("kernel")
ana, bob = lab.users("ana", "bob")
"""

Run = Callable[[str], dict[str, Any]]


def over_ipc() -> dict[str, str]:
    """How a kernel is reached: by sockets of its own. The TCP ports that Jupyter finds for one
    are now and then taken before it binds them, when several start at once."""
    folder = tempfile.mkdtemp(prefix="kernel-")
    return {"kernel_name": "python3", "transport": "ipc", "ip": f"{folder}/k"}


def client_of(book: Any) -> NotebookClient:
    return NotebookClient(book, timeout=120, km=AsyncKernelManager(**over_ipc()))


@contextmanager
def kernel() -> Iterator[tuple[KernelManager, Run]]:
    manager = KernelManager(**over_ipc())
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)

    def run(code: str) -> dict[str, Any]:
        asked = client.execute(code)
        while True:  # a kernel that was slow to start answers old questions first
            reply = client.get_shell_msg(timeout=60)
            if reply["parent_header"].get("msg_id") == asked:
                content: dict[str, Any] = reply["content"]
                return content

    yield manager, run
    client.stop_channels()
    if manager.has_kernel:
        manager.shutdown_kernel(now=True)


def checked_outputs(path: str) -> list[str]:
    """Run a notebook in a fresh kernel; what its checked cells gave."""
    book = nbformat.read(path, as_version=4)
    client_of(book).execute()
    return [
        "".join(out.get("text", "") or out.data["text/plain"] for out in cell.outputs)
        for cell in book.cells
        if cell.cell_type == "code" and "NBVAL_CHECK_OUTPUT" in cell.source
    ]


def sections_twice(path: str) -> int:
    """Run each section of a notebook twice before the next; how many cells ran."""
    book = nbformat.read(path, as_version=4)
    cells: list[Any] = []
    section: list[Any] = []
    for cell in [*book.cells, None]:
        if cell is None or (cell.cell_type == "markdown" and cell.source.startswith("## ")):
            cells += section + section
            section = []
        if cell is not None and cell.cell_type == "code":
            section.append(cell)
    book.cells = cells
    client_of(book).execute()
    return len(cells)


def killed() -> str:
    """Kill a kernel that has a lab with a user in a process of its own; the lab's name."""
    with kernel() as (manager, run):
        code = BEGIN + 'dan = lab.user("dan", process=True)\nprint(lab.lease.lab)'
        assert run(code)["status"] == "ok"
        reply = run("assert False, lab.lease.lab")
        manager.shutdown_kernel(now=True)
    return str(reply["evalue"])


def interrupted() -> dict[str, Any]:
    """Interrupt a cell that waits, then use the lab again."""
    with kernel() as (manager, run):
        assert run(BEGIN + 'inbox = bob.private_chat("ana")')["status"] == "ok"
        started = Path(tempfile.mkdtemp(prefix="kernel-"), "started")

        def interrupt() -> None:
            while not started.exists():
                time.sleep(0.01)
            time.sleep(0.5)  # it waits by now; an idle kernel would forget an interrupt
            manager.interrupt_kernel()

        threading.Thread(target=interrupt).start()
        began = time.monotonic()
        first = run(f"open({str(started)!r}, 'w').close(); inbox.next(timeout=50)")
        seconds = time.monotonic() - began
        after = run('assert inbox.wait_for(ana.private_chat("bob").send("hola"))')
        return {"first": first, "seconds": seconds, "after": after}


def refused() -> dict[str, Any]:
    """A cell that sends to nobody."""
    with kernel() as (_, run):
        assert run(BEGIN)["status"] == "ok"
        return run('ana.private_chat("nobody").send("hola")')


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
