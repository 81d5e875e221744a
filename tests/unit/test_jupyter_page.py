"""The process behind the launcher's RabbitMQ page, in front of a stand-in of RabbitMQ."""

from __future__ import annotations

import asyncio
import json
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
import trustme
from tornado.httpclient import HTTPRequest, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine
from tornado.simple_httpclient import SimpleAsyncHTTPClient
from tornado.testing import bind_unused_port

from chatlab import services
from chatlab.errors import ServiceUnavailable
from chatlab.jupyter import page
from chatlab.jupyter.looking import IDLE_SECONDS, Looking
from chatlab.services.addresses import RabbitAddress
from chatlab.settings import Settings

INDEX = b"<html><head><script src='js/main.js'></script></head><body></body></html>"


@dataclass
class Broker:
    """Remembers what it was asked, and answers the same with headers of all kinds."""

    asked: list[HTTPServerRequest] = field(default_factory=list)

    def __call__(self, request: HTTPServerRequest) -> None:
        self.asked.append(request)
        headers = {
            "Content-Length": str(len(INDEX)),
            "Content-Type": "text/html",
            "ETag": '"1"',
            "Set-Cookie": "a=b",
            "Location": "http://127.0.0.1:1/elsewhere",
        }
        assert request.connection is not None
        request.connection.write_headers(
            ResponseStartLine("HTTP/1.1", 200, "OK"), HTTPHeaders(headers), INDEX
        )
        request.connection.finish()


@dataclass
class Looked:
    """Says where RabbitMQ is, without a lease."""

    answer: RabbitAddress | ServiceUnavailable | None
    settings: Settings = field(default_factory=Settings)
    doing: str = "RabbitMQ starts <3 s>"

    async def rabbitmq(self) -> RabbitAddress | None:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@asynccontextmanager
async def serving(handler: Any, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    server = HTTPServer(handler, ssl_options=tls)
    socket, port = bind_unused_port()
    server.add_socket(socket)
    try:
        yield port
    finally:
        server.stop()
        await server.close_all_connections()


async def ask(
    looked: Looked, path: str = "/", method: str = "GET", **headers: str
) -> HTTPResponse:
    client = SimpleAsyncHTTPClient(force_instance=True)
    body = b"{}" if method in ("PUT", "POST") else None
    async with serving(page.application(cast(Looking, looked))) as port:
        request = HTTPRequest(
            f"http://127.0.0.1:{port}{path}", method=method, headers=headers, body=body
        )
        answer = await client.fetch(request, raise_error=False)
    client.close()
    return answer


def address(port: int, scheme: str = "http", authority: str = "") -> RabbitAddress:
    return RabbitAddress(
        host="127.0.0.1",
        port=1,
        user="monitor",
        password="hush",
        management_url=f"{scheme}://127.0.0.1:{port}",
        authority=authority,
    )


async def test_a_question_gets_the_account_that_looks_and_nothing_of_jupyters() -> None:
    broker = Broker()
    async with serving(broker) as port:
        answer = await ask(
            Looked(address(port)),
            "/api/queues?token=jupyters&page=1",
            Cookie="login=jupyters",
            Authorization="token jupyters",
            **{"X-XSRFToken": "jupyters", "X-Vhost": "chatlab-x"},
        )
    (asked,) = broker.asked
    sign = b64encode(b"monitor:hush").decode()
    assert asked.headers["Authorization"] == f"Basic {sign}"
    assert asked.headers["X-Vhost"] == "chatlab-x"
    assert asked.uri == "/api/queues?page=1"
    assert "jupyters" not in f"{asked.uri} {dict(asked.headers)}"
    assert (answer.code, answer.body) == (200, INDEX)
    assert answer.headers["ETag"] == '"1"'
    assert "Set-Cookie" not in answer.headers
    assert "Location" not in answer.headers


async def test_the_page_gets_the_script_and_no_secret() -> None:
    async with serving(Broker()) as port:
        answer = await ask(Looked(address(port)))
        script = await ask(Looked(None), "/chatlab.js")
    text = answer.body.decode()
    assert text.index("js/main.js") < text.index('src="chatlab.js"') < text.index("</head>")
    assert "The RabbitMQ that notebooks share." in text
    assert answer.headers["Cache-Control"] == "no-store"
    assert script.headers["Content-Type"].startswith("text/javascript")
    assert b"hush" not in answer.body + script.body
    assert "hush" not in str(answer.headers)


async def test_a_rabbitmq_of_ones_own_is_named() -> None:
    own = Settings(rabbitmq_url="amqp://x:y@127.0.0.1", management_url="http://127.0.0.1")
    async with serving(Broker()) as port:
        there = replace(address(port), host="elsewhere")  # AMQP may be on another host
        answer = await ask(Looked(there, own))
    assert b"Your RabbitMQ at 127.0.0.1" in answer.body


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
async def test_what_would_change_something_is_refused_with_a_reason(method: str) -> None:
    broker = Broker()
    async with serving(broker) as port:
        answer = await ask(Looked(address(port)), "/api/queues/x/y", method)
    assert broker.asked == []
    assert answer.code == 403
    said = json.loads(answer.body)
    assert said["error"] == "not_authorised"  # RabbitMQ's page shows the reason of this one
    assert "only looks" in said["reason"]


@pytest.mark.parametrize(
    ("sent", "real"),
    [
        ("/api/queues/v/chatlab%252Fsd%252Fbob", "/api/queues/v/chatlab%2Fsd%2Fbob"),
        ("/api/queues/%252F/a%2520b", "/api/queues/%2F/a%20b"),
        ("/api/queues/v/100%2525252F", "/api/queues/v/100%25252F"),
        ("/js/main.js", "/js/main.js"),
        ("/api/queues?name=a%2Fb&token=x&page=1", "/api/queues?name=a%2Fb&page=1"),
        ("/?token=x", "/"),
    ],
)
def test_one_layer_of_encoding_is_taken_from_the_path(sent: str, real: str) -> None:
    assert page.target(sent) == real


async def test_https_is_trusted_by_the_authority_that_is_set_and_no_other() -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    root = authority.cert_pem.bytes().decode()
    other = trustme.CA().cert_pem.bytes().decode()
    async with serving(Broker(), context) as port:
        good = await ask(Looked(address(port, "https", root)))
        bad = await ask(Looked(address(port, "https", other)), "/api/x")
    assert b"chatlab.js" in good.body
    assert bad.code == 503
    assert "does not answer" in json.loads(bad.body)["reason"]


async def test_while_rabbitmq_starts_the_page_waits_and_its_questions_are_told() -> None:
    waits = await ask(Looked(None))
    assert waits.code == 200  # the proxy takes another one for a process that does not run
    assert b"RabbitMQ starts &lt;3 s&gt;" in waits.body
    assert b"location.reload()" in waits.body
    question = await ask(Looked(None), "/api/overview")
    assert question.code == 503


async def test_a_rabbitmq_that_cannot_be_had_is_three_lines() -> None:
    error = ServiceUnavailable("RabbitMQ <b>", "Nothing was changed.", "Type: x")
    answer = await ask(Looked(error))
    assert answer.code == 200
    for line in (b"RabbitMQ &lt;b&gt;", b"Nothing was changed.", b"Type: x"):
        assert line in answer.body
    assert b"reload()" not in answer.body  # it would start again and again
    assert (await ask(Looked(error), "/api/x")).code == 503


async def test_a_rabbitmq_that_is_gone_is_said_without_a_traceback() -> None:
    socket, port = bind_unused_port()
    socket.close()
    answer = await ask(Looked(address(port)))
    assert b"does not answer" in answer.body
    assert b"Traceback" not in answer.body


async def test_without_a_management_url_nothing_is_started() -> None:
    looking = Looking(Settings(rabbitmq_url="amqp://127.0.0.1:1"))
    with pytest.raises(ServiceUnavailable, match="is not known") as caught:
        await looking.rabbitmq()
    assert "CHATLAB_MANAGEMENT_URL" in caught.value.todo
    await looking.close()


class Lease:
    """What services.join would give."""

    rabbitmq = replace(
        address(1), user="boss", password="of all", monitor="looks", monitor_password="x"
    )
    lost = False
    closed = False

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the next joins give, a lease or an error; those that were given are taken out."""
    outcomes: list[Any] = []

    async def join(settings: Settings, *, lab: str, progress: Any) -> Lease:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome  # type: ignore[no-any-return]

    async def see_all(looking: Looking, lease: Lease) -> None:
        pass

    monkeypatch.setattr(services, "join", join, raising=False)
    monkeypatch.setattr(Looking, "_see_all", see_all)
    return outcomes


async def had(looking: Looking) -> RabbitAddress:
    await looking.rabbitmq()
    await asyncio.sleep(0)  # a join that began is over
    found = await looking.rabbitmq()
    assert found is not None
    return found


async def test_the_account_that_looks_is_shown_and_never_the_administrator(
    joined: list[Any],
) -> None:
    joined.append(Lease())
    looking = Looking(Settings())
    assert await looking.rabbitmq() is None  # it starts, and the page says so
    found = await had(looking)
    assert (found.user, found.password) == ("looks", "x")
    await looking.close()


async def test_the_lease_is_given_back_when_nobody_looks_and_taken_again(
    joined: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Lease(), Lease()
    joined += [first, second]
    looking = Looking(Settings())
    await had(looking)
    await looking.rest()
    assert not first.closed
    monkeypatch.setattr(looking, "_used", looking._used - IDLE_SECONDS - 1)
    await looking.rest()
    assert first.closed
    await had(looking)
    assert joined == []
    await looking.close()
    assert second.closed


async def test_after_a_failure_or_a_lost_lease_the_next_question_tries_again(
    joined: list[Any],
) -> None:
    first = Lease()
    joined += [ServiceUnavailable("No room."), first, Lease()]
    looking = Looking(Settings())
    with pytest.raises(ServiceUnavailable, match="No room"):
        await had(looking)
    await had(looking)
    first.lost = True
    await had(looking)
    assert joined == []
    await looking.close()


async def test_a_lease_that_comes_while_the_page_ends_is_given_back(joined: list[Any]) -> None:
    lease = Lease()
    joined.append(lease)
    looking = Looking(Settings())
    await looking.rabbitmq()
    await asyncio.sleep(0)
    await looking.close()
    assert lease.closed
