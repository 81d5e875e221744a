"""Processes of a test's own: clients to be killed and stopped, and what they printed."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from private_rig import PATIENCE_SECONDS, SECRET, Rig, quick_settings

from chatlab.services.addresses import to_dict
from chatlab.settings import child_environ

ROOT = Path(__file__).parents[1]


@asynccontextmanager
async def process(*arguments: str, **environ: str) -> AsyncIterator[Process]:
    """A Python process of ours; gone afterwards, whatever was done to it."""
    made = await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments),
        cwd=ROOT,
        env=child_environ({**quick_settings().as_environ(), **environ}),
        stdout=PIPE,
    )
    try:
        yield made
    finally:
        if made.returncode is None:
            made.kill()
        await made.wait()
        made._transport.close()  # type: ignore[attr-defined]


@asynccontextmanager
async def receiver(
    r: Rig, user: str, incarnation: int, work: float = 0, **environ: str
) -> AsyncIterator[Process]:
    """A client in a process of its own, receiving; ``work`` seconds of work a message."""
    who = (user, str(incarnation), SECRET, r.backend, str(work))
    address = json.dumps(to_dict(r.address))
    async with process("-m", "tests.private_child", address, *who, **environ) as child:
        assert await line(child) == "open"
        yield child


async def line(child: Process) -> str:
    assert child.stdout is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        return (await child.stdout.readline()).decode().strip()


async def rest(child: Process) -> list[str]:
    """All that a dead process had printed."""
    assert child.stdout is not None
    return (await child.stdout.read()).decode().splitlines()
