"""The client of the management API, against a few lines of HTTP that say anything."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from chatlab.errors import ServiceUnavailable
from chatlab.services.addresses import RabbitAddress
from chatlab.services.management import Management

SECRET = "a rather:secret wörd"


@dataclass
class Api:
    """An HTTP server that remembers requests and gives prepared bytes."""

    answer: bytes = b"HTTP/1.1 204 No Content\r\n\r\n"
    silent: bool = False
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (ln.split(": ", 1) for ln in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.requests.append((first, headers, body))
        if self.silent:
            await reader.read()
        writer.write(self.answer)
        writer.close()
        await writer.wait_closed()

    def says(self, status: str, body: object = None) -> None:
        text = b"" if body is None else json.dumps(body).encode()
        head = f"HTTP/1.1 {status}\r\ncontent-length: {len(text)}\r\n\r\n"
        self.answer = head.encode() + text

    def client(self, timeout: float = 2.0, path: str = "") -> Management:
        url = f"http://127.0.0.1:{self.port}{path}"
        return Management(
            RabbitAddress(
                host="127.0.0.1", port=1, user="ana", password=SECRET, management_url=url
            ),
            timeout,
        )


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    api = Api()
    server = await asyncio.start_server(api.serve, "127.0.0.1", 0)
    api.port = server.sockets[0].getsockname()[1]
    yield api
    server.close()


async def test_each_part_of_a_path_is_encoded_on_its_own(api: Api) -> None:
    api.says("200 OK", {"name": "x"})
    found = await api.client().get("queues", "/", "chatlab/sd/é b", columns="name,x", page=1)
    assert found == {"name": "x"}
    line, headers, _ = api.requests[0]
    assert line == (
        "GET /api/queues/%2F/chatlab%2Fsd%2F%C3%A9%20b?columns=name%2Cx&page=1 HTTP/1.1"
    )
    scheme, token = headers["authorization"].split()
    assert (scheme, b64decode(token).decode()) == ("Basic", f"ana:{SECRET}")
    assert headers["host"] == f"127.0.0.1:{api.port}"


async def test_a_path_of_the_url_comes_first(api: Api) -> None:
    await api.client(path="/rabbit/").put("vhosts", "x", body={"a": 1})
    line, headers, body = api.requests[0]
    assert line == "PUT /rabbit/api/vhosts/x HTTP/1.1"
    assert (headers["content-type"], json.loads(body)) == ("application/json", {"a": 1})


async def test_what_is_not_there_is_none_or_false(api: Api) -> None:
    api.says("404 Object Not Found", {"error": "Object Not Found"})
    assert await api.client().get("vhosts", "x") is None
    assert await api.client().delete("vhosts", "x") is False
    with pytest.raises(ServiceUnavailable, match="404 to PUT: Object Not Found"):
        await api.client().put("queues", "nowhere", "x")


async def test_a_change_that_is_done_says_so(api: Api) -> None:
    assert await api.client().delete("vhosts", "x") is True
    await api.client().put("vhosts", "x")
    api.says("201 Created")
    await api.client().post("bindings", "x")
    assert [line.split()[0] for line, _, _ in api.requests] == ["DELETE", "PUT", "POST"]


async def test_an_answer_in_chunks_is_read(api: Api) -> None:
    api.answer = (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n"
    )
    assert await api.client().get("x") == [1, 2]


async def test_refused_credentials_are_named_and_not_shown(api: Api) -> None:
    api.says("401 Unauthorized", {"error": "not_authorised", "reason": "Login failed"})
    with pytest.raises(ServiceUnavailable, match="refuses our credentials") as caught:
        await api.client().get("overview")
    assert "Nothing was changed" in str(caught.value)
    assert SECRET not in f"{caught.value!r} {caught.value} {api.client()!r}"


async def test_a_refused_request_gives_the_brokers_words(api: Api) -> None:
    api.says("400 Bad Request", {"error": "bad_request", "reason": "unknown type 'x'"})
    with pytest.raises(ServiceUnavailable, match="400 to PUT: unknown type 'x'") as caught:
        await api.client().put("exchanges", "v", "x")
    assert "Nothing was changed" in str(caught.value)
    api.says("500 Internal Server Error")
    with pytest.raises(ServiceUnavailable, match="500 to PUT: Internal Server") as caught:
        await api.client().put("exchanges", "v", "x")
    assert "may or may not" in str(caught.value)


Call = Callable[[Management], Awaitable[object]]
READ: Call = lambda client: client.get("x")  # noqa: E731
WRITE: Call = lambda client: client.put("x")  # noqa: E731
REMOVE: Call = lambda client: client.delete("x")  # noqa: E731


@pytest.mark.parametrize(
    ("call", "effect"),
    [(READ, "Nothing was changed"), (WRITE, "may or may not"), (REMOVE, "may or may not")],
)
async def test_a_time_out_says_whether_a_change_may_have_happened(
    api: Api, call: Call, effect: str
) -> None:
    api.silent = True
    with pytest.raises(ServiceUnavailable, match=r"within 0\.1 s") as caught:
        await call(api.client(timeout=0.1))
    assert effect in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n[1, 2",
        b"AMQP\x00\x00\x09\x01",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n<html",
    ],
    ids=["nothing", "half an answer", "another protocol", "not JSON"],
)
async def test_a_broken_answer_is_an_error_of_ours(api: Api, answer: bytes) -> None:
    api.answer = answer
    with pytest.raises(ServiceUnavailable, match=r"management API at 127\.0\.0\.1"):
        await api.client().get("x")


async def test_nobody_there_is_definite(api: Api) -> None:
    server = await asyncio.start_server(api.serve, "127.0.0.1", 0)
    api.port = server.sockets[0].getsockname()[1]
    server.close()
    with pytest.raises(ServiceUnavailable, match="is not there") as caught:
        await api.client().put("x")
    assert "Nothing was changed" in str(caught.value)
    nowhere = Management(RabbitAddress(host="h", port=1, user="u", password="p"))
    with pytest.raises(ServiceUnavailable, match="CHATLAB_MANAGEMENT_URL"):
        await nowhere.get("x")


async def test_proxies_of_the_environment_are_not_used(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    api.says("200 OK", [])
    assert await api.client().get("x") == []
