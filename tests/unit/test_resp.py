"""What redis-py does and raises, against a few lines of RESP that answer anything."""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from redis import exceptions as driver_errors

from chatlab import resp
from chatlab.errors import ChatlabError, SendFailed, SendUncertain, ServiceUnavailable
from chatlab.resp import Redis, Script, ScriptError, mapped
from chatlab.services.addresses import RedisAddress

SECRET = "a-rather-secret-word"

#: What the server does with a command: bytes to answer, None for silence, "close".
Answer = bytes | str | None


@dataclass
class Server:
    """Speaks RESP2: ``answers`` says what to each command by its name, else OK."""

    answers: dict[str, Answer | Callable[[list[str]], Answer]] = field(default_factory=dict)
    commands: list[list[str]] = field(default_factory=list)
    open: int = 0
    most: int = 0
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            while count := await reader.readline():
                command = [await self.word(reader) for _ in range(int(count[1:]))]
                self.commands.append(command)
                answer = self.answers.get(command[0], b"+OK\r\n")
                if callable(answer):
                    answer = answer(command)
                if answer == "close":
                    break
                if isinstance(answer, bytes):
                    await asyncio.sleep(0)
                    writer.write(answer)
        finally:
            self.open -= 1
            writer.close()

    @staticmethod
    async def word(reader: asyncio.StreamReader) -> str:
        length = int((await reader.readline())[1:])
        return (await reader.readexactly(length + 2))[:-2].decode()

    def said(self, name: str) -> list[list[str]]:
        return [command for command in self.commands if command[0] == name]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    yield server
    listener.close()


def client(port: int, deadline: float = 1.0, name: str = "", password: str = "") -> Redis:
    address = RedisAddress(host="127.0.0.1", port=port, password=password, prefix="lab:")
    return Redis(address, deadline=deadline, name=name)


@pytest.fixture
async def redis(server: Server) -> AsyncIterator[Redis]:
    redis = client(server.port)
    yield redis
    await redis.close()


SCRIPT = Script("return 1")


async def test_keys_begin_with_the_prefix_and_text_comes_back(
    server: Server, redis: Redis
) -> None:
    server.answers["EVALSHA"] = "$6\r\nhellö\r\n".encode()
    assert redis.key("a", "b") == "lab:a:b"
    assert await redis.run(SCRIPT, [redis.key("a")], [1, "é"]) == "hellö"
    assert server.said("EVALSHA")[0][2:] == ["1", "lab:a", "1", "é"]


async def test_a_script_that_the_server_forgot_is_loaded_again(
    server: Server, redis: Redis
) -> None:
    loaded: list[str] = []

    def load(command: list[str]) -> bytes:
        loaded.append(command[2])
        return b"$3\r\nsha\r\n"

    server.answers["SCRIPT"] = load
    server.answers["EVALSHA"] = lambda _: b":7\r\n" if loaded else b"-NOSCRIPT none\r\n"
    assert await redis.run(SCRIPT, []) == 7
    assert loaded == ["return 1"]


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (b"-TAKEN ana 5\r\n", ScriptError, "TAKEN ana 5"),
        (b"-ERR wrong number\r\n", ScriptError, "wrong number"),
        (b"-BUSYGROUP exists\r\n", ScriptError, "BUSYGROUP"),
        (b"-OOM command not allowed\r\n", SendFailed, "out of memory"),
        (b"-LOADING the data\r\n", ServiceUnavailable, "not ready"),
        (b"-MISCONF no disk\r\n", ServiceUnavailable, "not ready"),
        (b"-READONLY replica\r\n", ServiceUnavailable, "not ready"),
        (b"-NOPERM no\r\n", ServiceUnavailable, "credentials"),
        (b"-NOAUTH no\r\n", ServiceUnavailable, "credentials"),
        ("close", SendUncertain, "broke"),
        (b"HTTP/1.1 400\r\n", SendUncertain, "broke"),
    ],
)
async def test_each_answer_says_whether_it_happened(
    server: Server, redis: Redis, answer: Answer, error: type[ChatlabError], words: str
) -> None:
    server.answers["EVALSHA"] = answer
    with pytest.raises(ChatlabError, match=words) as caught:
        await redis.run(SCRIPT, [])
    assert type(caught.value) is error


async def test_the_code_of_a_scripts_own_error_is_told(server: Server, redis: Redis) -> None:
    server.answers["EVALSHA"] = b"-TAKEN ana 5\r\n"
    with pytest.raises(ScriptError) as caught:
        await redis.run(SCRIPT, [])
    assert caught.value.code == "TAKEN"


async def test_no_answer_in_time_is_uncertain_and_the_connection_is_given_up(
    server: Server,
) -> None:
    redis = client(server.port, deadline=0.1)
    server.answers["EVALSHA"] = None
    with pytest.raises(SendUncertain, match="in time"):
        await redis.run(SCRIPT, [])
    server.answers["EVALSHA"] = b":1\r\n"  # an answer to the second, not to the first
    assert await redis.run(SCRIPT, []) == 1
    await redis.close()


async def test_a_server_that_is_not_there_is_definite() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    redis = client(port)
    with pytest.raises(ServiceUnavailable, match="Nothing was changed"):
        await redis.run(SCRIPT, [])
    with pytest.raises(ServiceUnavailable):
        async with redis.subscription("hints"):
            pytest.fail("not subscribed")
    await redis.close()


@pytest.mark.parametrize("answer", [None, "close"], ids=["silent", "closes"])
async def test_a_server_that_does_not_even_log_us_in_is_definite(
    server: Server, answer: Answer
) -> None:
    """A frozen or cut link: connecting works, nothing after it."""
    server.answers = dict.fromkeys(("AUTH", "CLIENT"), answer)
    redis = client(server.port, deadline=0.1, password=SECRET)
    with pytest.raises(ServiceUnavailable):
        await redis.run(SCRIPT, [])
    assert server.said("EVALSHA") == []
    await redis.close()


async def test_a_connection_that_died_while_idle_is_replaced(
    server: Server, redis: Redis
) -> None:
    server.answers["EVALSHA"] = b":1\r\n"
    server.answers["PING"] = "close"
    assert await redis.run(SCRIPT, []) == 1
    with pytest.raises(SendUncertain), mapped(redis.address):
        await redis.driver.execute_command("PING")
    assert await redis.run(SCRIPT, []) == 1


async def test_a_connection_that_is_lost_before_a_command_is_written_is_an_error_of_ours(
    server: Server, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers["EVALSHA"] = b":1\r\n"
    get_connection = redis._pool.get_connection

    async def lost(*args: object, **options: object) -> object:
        connection = await get_connection(*args, **options)
        connection._writer.transport.abort()
        await asyncio.sleep(0)  # asyncio takes it down
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(redis._pool, "get_connection", lost)
        with pytest.raises(SendUncertain):
            await redis.run(SCRIPT, [])
    assert await redis.run(SCRIPT, []) == 1


async def test_refused_credentials_are_named_and_not_shown(server: Server) -> None:
    server.answers["AUTH"] = b"-WRONGPASS invalid username-password pair\r\n"
    redis = client(server.port, password=SECRET)
    with pytest.raises(ServiceUnavailable, match="credentials") as caught:
        await redis.run(SCRIPT, [])
    assert SECRET not in f"{caught.value!r} {caught.value} {redis.address!r}"
    await redis.close()


async def test_any_user_name_may_be_in_a_clients_name(server: Server) -> None:
    redis = client(server.port, name="lab/zoë/1")
    server.answers["EVALSHA"] = b":1\r\n"
    await redis.run(SCRIPT, [])
    names = [command[2] for command in server.said("CLIENT") if command[1] == "SETNAME"]
    assert names == ["lab/zo%C3%AB/1"]
    await redis.close()


async def test_many_commands_at_once_wait_for_a_free_connection(server: Server) -> None:
    redis = client(server.port, deadline=10)
    server.answers["EVALSHA"] = b":1\r\n"
    results = await asyncio.gather(*(redis.run(SCRIPT, []) for _ in range(200)))
    assert results == [1] * 200
    assert 1 < server.most <= resp.CONNECTIONS
    await redis.close()


async def test_a_cancelled_command_does_not_hand_its_answer_to_the_next(
    server: Server, redis: Redis
) -> None:
    asked = asyncio.Event()

    def silent(_: list[str]) -> None:
        asked.set()

    server.answers["EVALSHA"] = silent
    task = asyncio.create_task(redis.run(SCRIPT, []))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.answers["EVALSHA"] = b":2\r\n"
    assert await redis.run(SCRIPT, []) == 2


async def test_a_cancellation_at_any_moment_ends_the_task(server: Server) -> None:
    """asyncio.wait_for of Python 3.11, in redis-py, swallows one in six."""
    redis = client(server.port)
    server.answers["EVALSHA"] = b":1\r\n"

    async def ask_for_ever() -> None:
        while True:
            await redis.run(SCRIPT, [])

    for steps in range(60):
        task = asyncio.create_task(ask_for_ever())
        for _ in range(20 + steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task], timeout=1)
        assert task.cancelled(), f"cancelled after {steps} steps and still running"
    await redis.close()


@pytest.mark.parametrize("error", [None, driver_errors.ConnectionError("x")])
async def test_a_cancellation_that_the_driver_swallowed_is_raised(
    error: Exception | None,
) -> None:
    began = asyncio.Event()

    async def swallow() -> None:
        with mapped(RedisAddress(host="h", port=1)):
            try:
                began.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if error is not None:
                    raise error from None

    task = asyncio.create_task(swallow())
    await began.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


def confirmation(channel: str, number: int) -> bytes:
    return f"*3\r\n$9\r\nsubscribe\r\n${len(channel)}\r\n{channel}\r\n:{number}\r\n".encode()


async def test_a_subscription_is_confirmed_before_the_body_runs(
    server: Server, redis: Redis
) -> None:
    early = b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$4\r\nhint\r\n"
    server.answers["SUBSCRIBE"] = (
        confirmation("a", 1) + early + confirmation("b", 2) + early.replace(b"hint", b"next")
    )
    async with redis.subscription("a", "b") as pubsub:
        message = await pubsub.get_message(timeout=1)
        assert message is not None
        assert (message["type"], message["data"]) == ("message", "next")


async def test_a_subscription_that_is_not_confirmed_is_an_error(server: Server) -> None:
    redis = client(server.port, deadline=0.1)
    server.answers["SUBSCRIBE"] = confirmation("a", 1)  # and nothing about b
    with pytest.raises(SendUncertain):
        async with redis.subscription("a", "b"):
            pytest.fail("not subscribed")
    await redis.close()


async def test_closing_is_quiet_when_the_server_has_gone(server: Server) -> None:
    redis = client(server.port)
    server.answers["EVALSHA"] = "close"
    with pytest.raises(SendUncertain):
        await redis.run(SCRIPT, [])
    await redis.close()
    await redis.close()


DRIVER_ERRORS = [
    kind
    for _, kind in inspect.getmembers(driver_errors, inspect.isclass)
    if issubclass(kind, driver_errors.RedisError)
]


@pytest.mark.parametrize("kind", [*DRIVER_ERRORS, OSError, ConnectionResetError, TimeoutError])
def test_every_error_of_the_driver_becomes_one_of_ours(kind: type[Exception]) -> None:
    error = kind.__new__(kind)
    error.args = ("what the driver says",)
    with pytest.raises(ChatlabError) as caught, mapped(RedisAddress(host="h", port=1)):
        raise error
    definite = issubclass(kind, driver_errors.ResponseError | driver_errors.DataError)
    if not definite and kind is not driver_errors.BusyLoadingError:
        assert isinstance(caught.value, SendUncertain | ServiceUnavailable)


@pytest.mark.parametrize("kind", [TypeError, AttributeError])
def test_what_asyncio_raises_of_a_lost_connection_becomes_one_of_ours(
    kind: type[Exception],
) -> None:
    """Pythons without that fault never raise it."""
    asyncios = {"__name__": "asyncio.selector_events", "kind": kind}
    exec("def writelines(): raise kind", asyncios)
    with pytest.raises(SendUncertain), mapped(RedisAddress(host="h", port=1)):
        asyncios["writelines"]()
    with pytest.raises(kind), mapped(RedisAddress(host="h", port=1)):
        raise kind


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(ZeroDivisionError), mapped(RedisAddress(host="h", port=1)):
        raise ZeroDivisionError
