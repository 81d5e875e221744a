"""The HTTP management API of RabbitMQ, awaitable.

One short connection a request: the whole answer is read to its end and handed to
:mod:`http.client` for parsing, so one deadline covers connecting, sending and reading, and a
cancelled call leaves nothing behind. Proxies of the environment are never used. Each path
part is encoded on its own, so that a virtual host ``/`` or a queue ``chatlab/sd/bob`` is one
part. The API itself: https://www.rabbitmq.com/docs/http-api-reference.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import json
from base64 import b64encode
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from chatlab.errors import NO_EFFECT, ServiceUnavailable
from chatlab.services.addresses import RabbitAddress, trust

#: Longest answer that is read.
ANSWER_BYTES = 64 * 1024 * 1024

UNKNOWN_EFFECT = "It may or may not have taken effect."


class Management:
    """A client of the management API, with the credentials of ``address``.

    Every method raises :class:`~chatlab.errors.ServiceUnavailable` when the API is not
    there, does not answer in time, refuses the credentials or refuses the request. The error
    says whether a change may have happened; no secret is ever in it.

    Args:
        address: its ``management_url``, ``user`` and ``password`` are used.
        timeout: seconds for a whole request.
    """

    def __init__(self, address: RabbitAddress, timeout: float = 5.0) -> None:
        self.timeout = timeout
        url = urlsplit(address.management_url)
        self._tls = trust(address.authority) if url.scheme == "https" else None
        self._host = url.hostname or ""
        self._port = url.port or (443 if self._tls else 80)
        self._root = url.path.rstrip("/") + "/api/"
        token = b64encode(f"{address.user}:{address.password}".encode()).decode()
        self._headers = (
            f"Host: {url.netloc.rpartition('@')[2]}\r\nAuthorization: Basic {token}\r\n"
            "Accept: application/json\r\nConnection: close\r\n"
        )

    def __repr__(self) -> str:
        return f"<Management of RabbitMQ at {self._host}:{self._port}>"

    async def get(self, *path: str, **query: str | int) -> Any:
        """What is there, decoded; ``None`` when it does not exist (404)."""
        return await self._request("GET", path, query)

    async def put(self, *path: str, body: dict[str, Any] | None = None) -> None:
        """Create or replace; doing it twice is the same as once."""
        await self._request("PUT", path, body=body or {})

    async def post(self, *path: str, body: dict[str, Any] | None = None) -> Any:
        """Run an action, for instance add a binding; its decoded answer, if any."""
        return await self._request("POST", path, body=body or {})

    async def delete(self, *path: str) -> bool:
        """Remove; False when it was not there."""
        return await self._request("DELETE", path) is not None

    async def _request(
        self,
        method: str,
        path: tuple[str, ...],
        query: dict[str, str | int] | None = None,
        body: dict[str, Any] | None = None,
    ) -> Any:
        target = self._root + "/".join(quote(part, safe="") for part in path)
        if query:
            target += "?" + urlencode(query)
        status, reason, content = await self._exchange(method, target, body)
        if status == 404 and method in ("GET", "DELETE"):
            return None
        if not 200 <= status < 300:
            raise self._refused(method, status, reason, content)
        try:
            return json.loads(content) if content else ""
        except ValueError as error:
            effect = NO_EFFECT if method == "GET" else UNKNOWN_EFFECT
            raise ServiceUnavailable(f"{self._where} did not send JSON.", effect) from error

    async def _exchange(
        self, method: str, target: str, body: dict[str, Any] | None
    ) -> tuple[int, str, bytes]:
        """Send one request and read the whole answer."""
        text = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {target} HTTP/1.1\r\n{self._headers}"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n"
        effect = NO_EFFECT
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(self.timeout):
                reader, writer = await self._connect()
                if method != "GET":
                    effect = UNKNOWN_EFFECT
                writer.write(head.encode("ascii") + b"\r\n" + text)
                await writer.drain()
                return _parse(method, await _read_all(reader))
        except TimeoutError as error:
            what = f"did not answer within {self.timeout:g} s"
            raise ServiceUnavailable(f"{self._where} {what}.", effect) from error
        except OSError as error:
            what = "is not there" if writer is None else "closed the connection"
            raise ServiceUnavailable(f"{self._where} {what}.", effect) from error
        except http.client.IncompleteRead as error:
            raise ServiceUnavailable(f"{self._where} broke off.", effect) from error
        except (http.client.HTTPException, ValueError) as error:
            raise ServiceUnavailable(f"{self._where} does not speak HTTP.", effect) from error
        finally:
            if writer is not None:
                writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if not self._host:
            raise ServiceUnavailable(
                "No address of a RabbitMQ management API is known.",
                todo="Set CHATLAB_MANAGEMENT_URL, for instance http://host:15672.",
            )
        return await asyncio.open_connection(self._host, self._port, ssl=self._tls)

    @property
    def _where(self) -> str:
        return f"RabbitMQ's management API at {self._host}:{self._port}"

    def _refused(
        self, method: str, status: int, reason: str, content: bytes
    ) -> ServiceUnavailable:
        """The error of an answer that is not 2xx."""
        said = (_reason(content) or reason).rstrip(".")
        if status == 401:
            return ServiceUnavailable(
                f"{self._where} refuses our credentials: {said}.",
                todo="Check user and password, and that the user has a management tag.",
            )
        unknown = status >= 500 and method != "GET"
        return ServiceUnavailable(
            f"{self._where} answered {status} to {method}: {said}.",
            UNKNOWN_EFFECT if unknown else NO_EFFECT,
        )


class _Received:
    """Bytes that were read already, in the shape that http.client takes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    size = 0
    while part := await reader.read(256 * 1024):
        parts.append(part)
        size += len(part)
        if size > ANSWER_BYTES:
            raise ValueError(f"an answer of more than {ANSWER_BYTES:,} bytes")
    return b"".join(parts)


def _parse(method: str, data: bytes) -> tuple[int, str, bytes]:
    """Status, reason and body of one HTTP answer; chunks and lengths are checked."""
    answer = http.client.HTTPResponse(_Received(data), method=method)  # type: ignore[arg-type]
    answer.begin()
    return answer.status, answer.reason, answer.read()


def _reason(content: bytes) -> str:
    """The broker's own words in an error answer, shortened."""
    try:
        said = json.loads(content)
        return str(said.get("reason") or said.get("error"))[:200]
    except (ValueError, AttributeError):
        return ""
