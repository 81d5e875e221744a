"""A private RabbitMQ node as an ordinary child process.

Everything the node reads or writes is in one folder, everything it listens on is loopback.
What has to be said, and where it is documented
(https://www.rabbitmq.com/docs/configure, https://www.erlang.org/doc/man/epmd):

- the environment names the node, its folders, its configuration files (an empty
  ``rabbitmq-env.conf`` too, or the system's own is read) and its distribution port;
- ``HOME`` is the folder's, since Erlang keeps the cookie of a cluster there;
- Erlang's port mapper is ours (:class:`PortMapper`): a node that finds none starts a daemon
  on all interfaces which outlives everything;
- ``RUNNING_UNDER_SYSTEMD`` makes the start script *become* the Erlang machine instead of
  waiting for it in a shell, so the child we signal is the broker itself;
- the folder of plugins is one of links to those that are needed, because the broker scans
  all of them while it boots (a fifth of its CPU time).

It answers when an AMQP client is greeted and the management API knows its own version.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path

from chatlab.errors import ServiceUnavailable
from chatlab.services.addresses import RabbitAddress
from chatlab.services.broker import PORT_ATTEMPTS, Broker
from chatlab.services.find import RabbitProgram
from chatlab.services.management import Management
from chatlab.services.ports import LOOPBACK, Port, reserve
from chatlab.services.processes import Child
from chatlab.settings import child_environ

PLUGINS = ("rabbitmq_management", "rabbitmq_event_exchange")
USER = "chatlab"

#: A consumer may hold a message so long before its channel is closed (default: 30 min, which
#: a lesson with a break outlasts).
CONSUMER_TIMEOUT_MS = 24 * 60 * 60 * 1000
#: The broker blocks publishers when the disk has less left.
DISK_FREE_LIMIT = "50MB"
#: Figures of the management API are this fresh (default: 5,000). New connections are listed
#: with its samples, which the retention policies below take every second instead of every 5.
STATISTICS_MS = 1000
#: The port mapper answers within milliseconds.
MAPPER_SECONDS = 5.0

#: ``rabbitmqctl`` starts an Erlang of its own, which takes seconds on a busy machine.
TOOL_SECONDS = 30.0
#: A node is not killed in the first moments after its start; see ``settle_in``.
RIPE_SECONDS = 2.0
FIRST_STREAM = "chatlab/first-stream"
#: Parts of the machine's memory from which on RabbitMQ blocks publishers.
ALARMING, USUAL = "0.000001", "0.4"

CONFIG = """\
listeners.tcp.1 = {host}:{amqp}
management.tcp.ip = {host}
management.tcp.port = {management}
default_vhost = /
default_user = {user}
default_pass = {password}
default_user_tags.administrator = true
disk_free_limit.absolute = {disk}
consumer_timeout = {consumer_timeout}
collect_statistics_interval = {statistics}
management.sample_retention_policies.global.minute = 1
management.sample_retention_policies.basic.minute = 1
management.sample_retention_policies.detailed.minute = 1
log.file.level = info
"""

#: Gives the program to start; may fetch it and say so in the node's ``text``.
Finder = Callable[["RabbitNode"], Awaitable[RabbitProgram]]
#: Gives the port of a running port mapper.
Mapper = Callable[[RabbitProgram], Awaitable[int]]


class PortMapper:
    """One epmd in the foreground, on loopback, shared by all nodes of a supervisor."""

    def __init__(self, child: Child, port: Port) -> None:
        self.child = child
        self.port = port

    @classmethod
    async def start(cls, program: RabbitProgram, folder: Path, ledger: Path) -> PortMapper:
        """Start it on a free port, and return when it listens.

        Raises:
            ServiceUnavailable: it does not.
        """
        log = folder / "epmd.log"
        for _ in range(PORT_ATTEMPTS):
            port = reserve()
            child = await Child.start(
                "epmd",
                [program.epmd, "-port", str(port.number), "-address", LOOPBACK],
                environ=_clean_environ(program),
                log=log,
                ledger=ledger,
            )
            if await _comes_up(child, port.number):
                return cls(child, port)
            await child.kill()
            port.release()
        said = log.read_text(encoding="utf-8", errors="replace")[:500]
        raise ServiceUnavailable(f"Erlang's port mapper (epmd) does not start: {said}")


async def _comes_up(child: Child, port: int) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(MAPPER_SECONDS):
            while not child.ended:
                if await _listens(port):
                    return True
                await asyncio.sleep(0.01)
    return False


class RabbitNode(Broker):
    """One node; the supervisor knows the program and runs the port mapper."""

    name = "rabbitmq"
    title = "RabbitMQ"
    port_count = 3

    def __init__(
        self, folder: Path, *, ledger: Path, limit: float, find: Finder, mapper: Mapper
    ) -> None:
        super().__init__(folder, ledger=ledger, limit=limit)
        self._find = find
        self._mapper = mapper
        self._program: RabbitProgram | None = None
        self._address: RabbitAddress | None = None
        self._environ: dict[str, str] = {}

    @property
    def program(self) -> RabbitProgram:
        """The RabbitMQ that is started; known once a start has begun."""
        if self._program is None:
            raise ServiceUnavailable("RabbitMQ has not been started.")
        return self._program

    @property
    def address(self) -> RabbitAddress:
        """Where it listens, with the credentials of its administrator."""
        if self._address is None:
            raise ServiceUnavailable("RabbitMQ has not been started.")
        return self._address

    async def prepare(self) -> None:
        self._program = await self._find(self)

    def configure(self) -> None:
        amqp, management, _ = (port.number for port in self.ports)
        password = secrets.token_hex(16)
        self._address = RabbitAddress(
            host=LOOPBACK,
            port=amqp,
            user=USER,
            password=password,
            management_url=f"http://{LOOPBACK}:{management}",
            version=self.program.version,
        )
        for name in ("home", "data", "log", "plugins"):
            (self.folder / name).mkdir()
        _write(
            self.folder / "rabbitmq.conf",
            CONFIG.format(
                host=LOOPBACK,
                amqp=amqp,
                management=management,
                user=USER,
                password=password,
                disk=DISK_FREE_LIMIT,
                consumer_timeout=CONSUMER_TIMEOUT_MS,
                statistics=STATISTICS_MS,
            ),
        )
        _write(self.folder / "advanced.config", "[].\n")
        _write(self.folder / "rabbitmq-env.conf", "")
        _write(self.folder / "enabled_plugins", f"[{','.join(PLUGINS)}].\n")
        for plugin in needed_plugins(self.program.plugins):
            (self.folder / "plugins" / plugin.name).symlink_to(plugin)

    async def launch(self) -> Child:
        self._environ = self.environ(await self._mapper(self.program))
        return await Child.start(
            f"{self.name}-{self.folder.parent.name}",
            [self.program.script],
            environ=self._environ,
            log=self.folder / "log" / "console.log",
            ledger=self.ledger,
        )

    def environ(self, mapper_port: int) -> dict[str, str]:
        """The whole environment of the node."""
        folder = self.folder
        own: dict[str, object] = {
            "HOME": folder / "home",
            "RABBITMQ_NODENAME": f"chatlab-{self.ports[0].number}@localhost",
            "RABBITMQ_MNESIA_BASE": folder / "data",
            "RABBITMQ_LOG_BASE": folder / "log",
            "RABBITMQ_ENABLED_PLUGINS_FILE": folder / "enabled_plugins",
            "RABBITMQ_CONFIG_FILE": folder / "rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": folder / "advanced.config",
            "RABBITMQ_CONF_ENV_FILE": folder / "rabbitmq-env.conf",
            "RABBITMQ_DIST_PORT": self.ports[2].number,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1}"
            ),
            "ERL_CRASH_DUMP": folder / "log" / "erl_crash.dump",
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": mapper_port,
            "RUNNING_UNDER_SYSTEMD": "true",
        }
        if any((folder / "plugins").iterdir()):
            own["RABBITMQ_PLUGINS_DIR"] = folder / "plugins"
        return _clean_environ(self.program) | {name: str(own[name]) for name in own}

    async def answers(self) -> bool:
        with suppress(ServiceUnavailable):
            if not await _greets(self.address.port):
                return False
            return await Management(self.address).get("overview") is not None
        return False

    async def limit_memory(self, on: bool) -> None:
        # By the broker's own tool, which asks the node over Erlang's distribution.
        tool = self.program.script.with_name("rabbitmqctl")
        process = await asyncio.create_subprocess_exec(
            *(tool, "set_vm_memory_high_watermark", ALARMING if on else USUAL),
            env=self._environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(TOOL_SECONDS):
                said, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            raise ServiceUnavailable("RabbitMQ's own tool does not answer.") from None
        if process.returncode:
            words = said.decode(errors="replace").strip()[:300]
            raise ServiceUnavailable(f"RabbitMQ does not take a memory limit: {words}")

    async def settle_in(self) -> None:
        """Have a stream once. RabbitMQ starts what coordinates streams with a node's first
        one, writes so down a second later, and when it is killed before, it never finds the
        streams again (seen with 3.10). So the first one is nobody's, and :meth:`kill` waits
        out that second."""
        management, stream = Management(self.address), {"x-queue-type": "stream"}
        await management.put(
            "queues", "/", FIRST_STREAM, body={"durable": True, "arguments": stream}
        )
        await management.delete("queues", "/", FIRST_STREAM)

    async def kill(self) -> None:
        if self.state == "up":
            await asyncio.sleep(RIPE_SECONDS - self.seconds)
        await super().kill()

    def port_taken(self, log: str) -> bool:
        # The second is how the broker says it of its distribution port.
        return "eaddrinuse" in log or "dist_port_already_used" in log

    def diagnosis(self, log: str) -> str:
        """The slogan of Erlang's crash dump, and the log from where it says BOOT FAILED."""
        dump = self.folder / "log" / "erl_crash.dump"
        slogan = ""
        if dump.exists():
            with dump.open(encoding="utf-8", errors="replace") as file:
                slogan = next((line for line in file if line.startswith("Slogan:")), "")
        return slogan + log[max(0, log.find("BOOT FAILED")) :]


def needed_plugins(folder: Path) -> list[Path]:
    """The plugins of :data:`PLUGINS` with all that they and the broker need.

    Each ``<name>-<version>/ebin/<name>.app`` lists the applications it needs. Empty when
    something is missing there (archives, another layout): then the node takes them all.
    """
    there = {path.name.partition("-")[0]: path for path in folder.glob("*-*")}
    wanted = [*PLUGINS, "rabbit", "rabbitmq_prelaunch"]
    found: dict[str, Path] = {}
    while wanted:
        name = wanted.pop()
        if name in found or name not in there:
            continue  # seen, or a part of Erlang itself
        found[name] = there[name]
        try:
            text = (there[name] / "ebin" / f"{name}.app").read_text(encoding="utf-8")
        except OSError:
            return []
        lists = re.findall(
            r"\{\s*(?:applications|included_applications),\s*\[(.*?)\]", text, re.S
        )
        wanted += re.findall(r"\w+", " ".join(lists))
    return list(found.values()) if set(PLUGINS) <= found.keys() else []


def _clean_environ(program: RabbitProgram) -> dict[str, str]:
    """This process's environment without anything that would steer another RabbitMQ."""
    mine: Mapping[str, str] = child_environ()
    foreign = ("RABBITMQ_", "ERL_", "NOTIFY_SOCKET", "CONF_ENV_FILE")
    kept = {name: value for name, value in mine.items() if not name.startswith(foreign)}
    return kept | dict(program.environ)


def _write(path: Path, text: str) -> None:
    """Write a file that may hold a secret. The folders above are private already."""
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    return True


async def _greets(port: int) -> bool:
    """Whether an AMQP 0-9-1 client is greeted: the answer is a method frame (type 1)."""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(b"AMQP\x00\x00\x09\x01")
                return await reader.read(1) == b"\x01"
            finally:
                writer.transport.abort()
    return False
