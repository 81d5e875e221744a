"""What the launcher's entry "RabbitMQ" runs: ``python -m chatlab.jupyter.page SOCKET``.

jupyter-server-proxy starts it with the first click, asks it by a Unix socket for what the
browser wants, after Jupyter has checked who that is, and ends it with Jupyter. It passes the
questions on to RabbitMQ's management page: on the brokers that labs share, which it starts
where they do not run, or on a RabbitMQ of one's own (``management_url``, ``https`` as well).

Nobody signs in. Every question gets the credentials of an account that may only look (see
:mod:`chatlab.jupyter.looking`) here, on its way out; the browser never has them, so they are
in no URL, no command line, no log and no page. The script ``look/page.js``, which is added to
the page, tells it that it is signed in. What the browser sends of its own stays here: cookies
and tokens are Jupyter's. Only GET and HEAD are passed on.

A proxy that decodes paths loses the slash in ``chatlab%2Fsd%2Fbob``. So the script encodes
every path once more than it need, and that is taken back here.
"""

from __future__ import annotations

import asyncio
import html
import os
import signal
import ssl
import sys
from base64 import b64encode
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from tornado.httpclient import HTTPRequest, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_unix_socket
from tornado.simple_httpclient import SimpleAsyncHTTPClient
from tornado.web import Application, RequestHandler

from chatlab.errors import ChatlabError, ServiceUnavailable
from chatlab.jupyter import LOOK
from chatlab.jupyter.looking import Looking
from chatlab.services.addresses import RabbitAddress
from chatlab.settings import Settings

#: RabbitMQ's answer is given up after so long.
ANSWER_SECONDS = 30.0
#: How often is looked whether Jupyter still runs.
LOOK_SECONDS = 1.0
#: Giving the lease back takes no longer.
CLOSE_SECONDS = 5.0
#: Headers that are passed on; of a question …
ASKED = ("Accept", "Accept-Encoding", "Accept-Language", "X-Vhost")
#: … and of an answer. None that sets a cookie: the page lies below Jupyter's address.
ANSWERED = (
    *("Content-Type", "Content-Encoding", "Content-Security-Policy", "Cache-Control"),
    *("ETag", "Last-Modified", "Vary", "X-Content-Type-Options"),
)
#: Jupyter's token may stand in the URL of a page.
JUPYTERS = "token="

ONLY_LOOKS = (
    "This page only looks. To break or change something use the lab itself, "
    "or sign in at lab.rabbitmq.page."
)
OF_ALL = (
    "The RabbitMQ that notebooks share. A breakable lab has another one, "
    "at lab.rabbitmq.page. This page only looks."
)
OF_ONES_OWN = "Your RabbitMQ at {host}: the labs on it. This page only looks."

MESSAGE = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>RabbitMQ</title>{script}
<style>body {{ font: 16px/1.5 sans-serif; margin: 4em auto; max-width: 40em }}</style>
</head><body>{lines}</body></html>
"""
#: Loads the page again in a second, with what stands behind the ``#``.
AGAIN = "<script>setTimeout(() => location.reload(), 1000)</script>"


class Page(RequestHandler):
    """Passes one question on."""

    SUPPORTED_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")

    def initialize(self, looking: Looking, client: SimpleAsyncHTTPClient) -> None:
        self.looking = looking
        self.client = client

    async def get(self) -> None:
        if self.request.path == "/chatlab.js":
            self._send(200, (LOOK / "page.js").read_bytes(), "text/javascript; charset=utf-8")
            return
        try:
            rabbitmq = await self.looking.rabbitmq()
            if rabbitmq is None:
                self._wait(self.looking.doing)
            else:
                await self._pass_on(rabbitmq)
        except ChatlabError as error:
            self._say(error)

    head = get

    def refuse(self) -> None:
        # With this error RabbitMQ's page shows the reason.
        self._send_json(403, {"error": "not_authorised", "reason": ONLY_LOOKS})

    post = put = delete = refuse

    async def _pass_on(self, rabbitmq: RabbitAddress) -> None:
        answer = await self._ask(rabbitmq)
        self.set_status(answer.code, answer.reason)
        for name in ANSWERED:
            if name in answer.headers:
                self.set_header(name, answer.headers[name])
        body = answer.body or b""
        if self._is_page:
            self.set_header("Cache-Control", "no-store")
            note = OF_ALL
            if self.looking.settings.rabbitmq_url:
                host = urlsplit(rabbitmq.management_url).hostname
                note = OF_ONES_OWN.format(host=host)
            body = with_script(body, note)
        self.finish(body)

    async def _ask(self, rabbitmq: RabbitAddress) -> HTTPResponse:
        asked = {
            name: self.request.headers[name] for name in ASKED if name in self.request.headers
        }
        if self._is_page:
            asked.pop("Accept-Encoding", None)  # a script is put into it
        sign = b64encode(f"{rabbitmq.user}:{rabbitmq.password}".encode()).decode("ascii")
        request = HTTPRequest(
            rabbitmq.management_url.rstrip("/") + target(self.request.uri or "/"),
            method=self.request.method or "GET",
            headers={**asked, "Authorization": f"Basic {sign}"},
            request_timeout=ANSWER_SECONDS,
            connect_timeout=ANSWER_SECONDS,
            follow_redirects=False,
            decompress_response=False,
            ssl_options=_trust(rabbitmq),
        )
        try:
            return await self.client.fetch(request, raise_error=False)
        except Exception as error:  # sockets, certificates, half an answer: it is not there
            host = urlsplit(rabbitmq.management_url).netloc
            raise ServiceUnavailable(
                f"RabbitMQ's management page at {host} does not answer."
            ) from error

    @property
    def _is_page(self) -> bool:
        return self.request.path == "/"

    def _wait(self, doing: str) -> None:
        if self._is_page:
            self._send(200, message([f"{doing} …"], AGAIN))
        else:
            self._send_json(503, {"error": "unavailable", "reason": doing})

    def _say(self, error: ChatlabError) -> None:
        """The three lines; where the page itself was asked for with 200, since the proxy takes
        another status for a process that does not run."""
        lines = [line for line in (error.what, error.effect, error.todo) if line]
        if self._is_page:
            self._send(200, message([*lines, "Then load this page again."]))
        else:
            self._send_json(503, {"error": "unavailable", "reason": " ".join(lines)})

    def _send_json(self, status: int, value: dict[str, str]) -> None:
        self.set_status(status)
        self.finish(value)

    def _send(self, status: int, body: bytes, kind: str = "text/html; charset=utf-8") -> None:
        self.set_status(status)
        self.set_header("Content-Type", kind)
        self.set_header("Cache-Control", "no-store")
        self.finish(body)


def target(uri: str) -> str:
    """Path and query for RabbitMQ: one layer of encoding less, and without Jupyter's token."""
    path, _, query = uri.partition("?")
    kept = [part for part in query.split("&") if part and not part.startswith(JUPYTERS)]
    return path.replace("%25", "%") + ("?" + "&".join(kept) if kept else "")


def with_script(page: bytes, note: str) -> bytes:
    """RabbitMQ's page with chatlab's script behind its own ones."""
    tag = f'<script src="chatlab.js" data-note="{html.escape(note)}"></script>\n'
    return page.replace(b"</head>", tag.encode() + b"</head>", 1)


def message(lines: list[str], script: str = "") -> bytes:
    """A page of our own that says something."""
    shown = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    return MESSAGE.format(script=script, lines=shown).encode()


def _trust(rabbitmq: RabbitAddress) -> ssl.SSLContext | None:
    if not rabbitmq.management_url.startswith("https:"):
        return None
    return ssl.create_default_context(cadata=rabbitmq.authority or None)


def application(looking: Looking) -> Application:
    """The web application; it writes no log."""
    given: dict[str, Any] = {
        "looking": looking,
        "client": SimpleAsyncHTTPClient(force_instance=True),
    }
    return Application([(r"/.*", Page, given)], log_function=lambda handler: None)


async def serve(socket: str, settings: Settings) -> None:
    """Answer until SIGTERM or SIGINT, or until Jupyter is gone."""
    looking = Looking(settings)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    server = HTTPServer(application(looking))
    server.add_socket(bind_unix_socket(socket, mode=0o600))
    jupyter = os.getppid()
    while not ended.is_set() and os.getppid() == jupyter:
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), LOOK_SECONDS)
        with suppress(ChatlabError):
            await looking.rest()
    server.stop()
    with suppress(ChatlabError, TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await looking.close()


def main() -> int:
    """Serve on the socket that the command line names."""
    try:
        asyncio.run(serve(sys.argv[1], Settings.load()))
    except ChatlabError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
