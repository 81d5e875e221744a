"""Topology, ghosts, error mapping, the codec, the consumer and the file limit, alone."""

from __future__ import annotations

import asyncio
import inspect
import socket
import struct
from types import SimpleNamespace
from typing import Any

import pika
import pika.exceptions
import pytest
from pika.adapters.utils import connection_workflow as workflow

from chatlab.amqp import Binding, Consumer, Delivery, Exchange, Queue, incoming, outgoing, wire
from chatlab.amqp.codec import OUTSIDER
from chatlab.amqp.errors import REFUSALS, Forced, Lost, NotYet, Refused, from_code
from chatlab.amqp.ghosts import older
from chatlab.amqp.limits import raise_file_limit
from chatlab.amqp.topology import ExchangeBinding, Topology
from chatlab.amqp.wire import Properties
from chatlab.errors import ChatClosed, ChatlabError, ServiceUnavailable, Taken
from chatlab.messages import Message

# ------------------------------------------------------------------------------ topology


def test_a_topology_declares_the_ends_of_a_binding_first_and_each_thing_once() -> None:
    topology = Topology()
    to_exchange, to_queue = ExchangeBinding("x", "y"), Binding("q", "x")
    things = [to_exchange, to_queue, Queue("q"), Exchange("x"), Queue("p"), Queue("q")]
    for thing in things:
        topology.add(thing)
    assert list(topology) == [Exchange("x"), Queue("q"), Queue("p"), to_queue, to_exchange]


def test_forgetting_a_queue_forgets_its_bindings_and_nothing_else() -> None:
    topology = Topology()
    rest = [Exchange("q"), Queue("p"), Binding("p", "q")]
    for thing in [*rest, Queue("q"), Binding("q", "x"), Binding("q", "y")]:
        topology.add(thing)
    topology.forget_queue("q")
    assert list(topology) == rest


def test_forgetting_an_exchange_keeps_a_queue_of_the_same_name() -> None:
    topology = Topology()
    topology.add(Exchange("x"))
    topology.add(Queue("x"))
    topology.forget_exchange("x")
    assert list(topology) == [Queue("x")]


# -------------------------------------------------------------------------------- ghosts


def properties_of(name: str, role: str = "consuming", serial: int = 1) -> dict[str, Any]:
    return {"connection_name": name, "role": role, "serial": serial}


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        (properties_of("lab/bob/2", serial=9), True),
        (properties_of("lab/bob/2", "publishing"), True),
        (properties_of("lab/bob/3", serial=4), True),
        (properties_of("lab/bob/3", serial=5), False),  # this very connection
        (properties_of("lab/bob/3", "publishing", 4), False),
        (properties_of("lab/bobby/2"), False),
        (properties_of("lab/ana/2"), False),
        (properties_of("other/bob/2"), False),
        (properties_of("lab/bob/x"), False),
        ({"connection_name": "lab/bob/3"}, False),
        ({}, False),
    ],
)
def test_only_older_connections_of_the_same_user_are_ghosts(
    properties: dict[str, Any], expected: bool
) -> None:
    assert older(properties, "lab/bob/3", "consuming", 5) is expected


def test_a_newer_life_is_no_ghost_but_a_takeover() -> None:
    with pytest.raises(Taken, match="bob"):
        older(properties_of("lab/bob/10"), "lab/bob/9", "consuming", 5)


# -------------------------------------------------------------------------------- errors


def test_reply_codes_are_retried_or_raised() -> None:
    assert type(from_code(320, "", "x")) is Forced
    assert type(from_code(541, "", "x")) is Lost
    gone = "home node 'n' of durable queue 'q' in vhost '/' is down or inaccessible"
    assert type(from_code(404, gone, "x")) is NotYet
    remote = "queue 'q' in vhost '/' does not have a replica on the local node"
    assert type(from_code(406, remote, "x")) is NotYet
    assert issubclass(Forced, Lost)
    for code, kind in REFUSALS.items():
        assert type(from_code(code, "", "x")) is kind
    assert set(REFUSALS) == {403, 404, 405, 406, 530}
    assert type(from_code(503, "", "x")) is Refused
    assert not issubclass(Refused, Lost)


def example(kind: type[BaseException]) -> BaseException:
    required = [
        parameter
        for parameter in inspect.signature(kind.__init__).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    return kind(*([404, "text"] if len(required) > 2 else [[OSError()]] * (len(required) - 1)))


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for module in (pika.exceptions, workflow)
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__.startswith("pika")
    ],
)
def test_every_exception_of_pika_is_caught_and_mapped(kind: type[Exception]) -> None:
    if kind is pika.exceptions.ReentrancyError:  # of BlockingConnection only
        return
    assert issubclass(kind, wire.DRIVER_ERRORS)
    error = example(kind)
    mapped = wire._mapped(error, "RabbitMQ")
    assert isinstance(mapped, ChatlabError)
    assert type(mapped).__module__ == "chatlab.amqp.errors"
    assert mapped.__cause__ is error


def test_a_cut_during_the_handshake_is_not_taken_for_wrong_credentials() -> None:
    cut = pika.exceptions.ProbableAuthenticationError(repr(pika.exceptions.StreamLostError()))
    assert isinstance(wire._mapped(cut, "x"), Lost)
    told = pika.exceptions.ProbableAuthenticationError(
        repr(pika.exceptions.ConnectionClosedByBroker(403, "ACCESS_REFUSED"))
    )
    assert isinstance(wire._mapped(told, "x"), REFUSALS[403])


def test_a_broker_that_is_not_there_is_told_from_one_that_breaks_off() -> None:
    refused = workflow.AMQPConnectorSocketConnectError(ConnectionRefusedError(111, "no"))
    failed = pika.exceptions.AMQPConnectionError(
        workflow.AMQPConnectionWorkflowFailed([refused])
    )
    assert "is not running" in wire._mapped(failed, "RabbitMQ").what


# --------------------------------------------------------------------------------- codec

MESSAGE = Message("ana:2:7", "ana", 2, "sd", "¿qué? 🙃", 3, 1795416976.347485, 41)


def arrived(properties: Properties, body: bytes) -> Delivery:
    return Delivery(1, False, properties, body, None)  # type: ignore[arg-type]


def test_a_message_survives_the_wire_unchanged() -> None:
    sent = outgoing(MESSAGE, "sd", "", persistent=True)
    # As RabbitMQ would hand it out: through pika's own encoding.
    pieces = b"".join(sent.properties.encode())
    properties = Properties()
    properties.decode(pieces)
    assert incoming(arrived(properties, sent.body), "sd") == MESSAGE


def test_the_broker_s_own_tools_can_read_a_message() -> None:
    sent = outgoing(MESSAGE, "sd", "", persistent=True)
    properties = sent.properties
    assert sent.body == "¿qué? 🙃".encode()
    assert (properties.content_type, properties.app_id) == ("text/plain", "chatlab")
    assert (properties.message_id, properties.timestamp) == ("ana:2:7", 1795416976)
    assert set(properties.headers) == {"sender", "incarnation", "seq", "sent_at", "clock"}
    assert properties.delivery_mode == 2
    transient = outgoing(MESSAGE, "sd", "", persistent=False)
    assert transient.properties.delivery_mode == 1


def headers_with(**changes: Any) -> dict[str, Any]:
    headers = dict(outgoing(MESSAGE, "", "", persistent=True).properties.headers)
    headers.update(changes)
    return {key: value for key, value in headers.items() if value is not None}


@pytest.mark.parametrize(
    "properties",
    [
        Properties(),
        Properties(headers={}),
        Properties(message_id="x", headers=headers_with(sender=None)),
        Properties(message_id="x", headers=headers_with(sender="a/b")),
        Properties(message_id="x", headers=headers_with(sender=7)),
        Properties(message_id="x", headers=headers_with(seq="3")),
        Properties(message_id="x", headers=headers_with(clock=None)),
        Properties(message_id="x", headers=headers_with(sent_at="yesterday")),
        Properties(message_id="x", headers=headers_with(sent_at=[])),
        Properties(headers=headers_with()),  # no id
    ],
)
def test_what_is_not_wholly_ours_is_an_outsider_s(properties: Properties) -> None:
    message = incoming(arrived(properties, b"hola"), "sd")
    assert (message.sender, message.seq, message.incarnation, message.clock) == (
        *(OUTSIDER, 0),
        *(0, 0),
    )
    assert (message.body, message.to) == ("hola", "sd")
    assert message.id


def test_two_outsiders_without_an_id_are_two_messages_and_bytes_are_shown_somehow() -> None:
    one, other = (incoming(arrived(Properties(), b"\xff!"), "sd") for _ in range(2))
    assert one.id != other.id
    assert one.body == "\ufffd!"


def test_an_outsider_s_timestamp_is_believed() -> None:
    assert incoming(arrived(Properties(timestamp=1_700_000_000), b"x"), "sd").sent_at == 1.7e9


@pytest.mark.parametrize(
    "queue, messages, consumers, new",
    [
        (Queue("q"), 0, 0, True),
        (Queue("q", arguments={"x-queue-type": "quorum"}), 0, 0, True),
        (Queue("q"), 1, 0, False),
        (Queue("q"), 0, 1, False),
        (Queue("q", exclusive=True, durable=True), 0, 0, False),
        (Queue("q", settle=False), 0, 0, False),
    ],
)
async def test_a_queue_that_shall_outlive_the_broker_and_may_be_new_is_to_be_settled(
    queue: Queue, messages: int, consumers: int, new: bool
) -> None:
    class Answering:
        async def call(self, _: str, **__: Any) -> Any:
            return SimpleNamespace(message_count=messages, consumer_count=consumers)

    assert bool(await queue.declare(Answering())) is new  # type: ignore[arg-type]


# ------------------------------------------------------------------------------ consumer


class FakeChannel:
    """As much of a channel as a consumer needs."""

    def __init__(self) -> None:
        self.wire = SimpleNamespace(alive=True)
        self.raw = self
        self.closed: ChatlabError | None = None
        self.on_closed: Any = None
        self.acks: list[tuple[int, bool]] = []
        self.calls: list[str] = []

    def add_on_cancel_callback(self, callback: Any) -> None:
        self.cancelled = callback

    async def call(self, method: str, **arguments: Any) -> Any:
        self.calls.append(method)
        self.deliver = arguments.get("on_message_callback", lambda *_: None)
        return SimpleNamespace(consumer_tag="tag")

    def send(self, method: str, tag: int, *, multiple: bool) -> bool:
        self.acks.append((tag, multiple))
        return True

    def arrive(self, *tags: int) -> None:
        for tag in tags:
            how = SimpleNamespace(delivery_tag=tag, redelivered=False, routing_key="key")
            self.deliver(None, how, Properties(), b"")


async def attached(**options: Any) -> tuple[Consumer, FakeChannel]:
    consumer, channel = Consumer("q", prefetch=10, **options), FakeChannel()
    await consumer.attach(channel)  # type: ignore[arg-type]
    return consumer, channel


async def test_a_consumer_gives_what_is_there_and_acks_many_at_once() -> None:
    consumer, channel = await attached()
    assert channel.calls == ["basic_qos", "basic_consume"]
    channel.arrive(1, 2, 3)
    batch = await consumer.take()
    assert [delivery.tag for delivery in batch] == [1, 2, 3]
    assert consumer.unacked == 3
    assert consumer.ack(batch[-1], 3)
    assert channel.acks == [(3, True)]
    assert consumer.unacked == 0


async def test_what_waited_at_a_loss_is_left_to_the_redelivery() -> None:
    lost: list[ChatlabError] = []
    back: list[str] = []
    consumer, channel = await attached(on_lost=lost.append, on_back=lambda: back.append("x"))
    channel.arrive(1, 2)
    consumer.detach(Lost("cut"))
    second = FakeChannel()
    await consumer.attach(second)  # type: ignore[arg-type]
    second.arrive(1)
    (delivery,) = await consumer.take()
    assert delivery.channel is second
    assert (len(lost), back) == (1, ["x"])


async def test_with_automatic_acks_what_waited_is_all_there_is_and_stays() -> None:
    consumer, channel = await attached(auto_ack=True)
    assert "basic_qos" not in channel.calls  # RabbitMQ would ignore it
    channel.arrive(1, 2)
    consumer.detach(Lost("cut"))
    assert len(await consumer.take()) == 2


async def test_an_acknowledgement_after_a_loss_does_not_count_for_the_new_connection() -> None:
    consumer, channel = await attached()
    channel.arrive(1)
    (old,) = await consumer.take()
    consumer.detach(Lost("cut"))
    second = FakeChannel()
    await consumer.attach(second)  # type: ignore[arg-type]
    second.arrive(1)
    await consumer.take()
    consumer.ack(old)
    assert second.acks == []
    assert consumer.unacked == 1


async def test_a_deleted_queue_is_raised_after_what_had_arrived() -> None:
    consumer, channel = await attached()
    channel.arrive(1)
    channel.cancelled(None)
    assert len(await consumer.take()) == 1
    with pytest.raises(ChatClosed, match="q was deleted"):
        await consumer.take()


async def test_a_channel_closed_by_the_broker_is_raised_and_a_lost_one_is_not() -> None:
    consumer, channel = await attached()
    channel.wire.alive = False
    channel.on_closed(Lost("cut"))
    channel.wire.alive = True
    waiting = asyncio.create_task(consumer.take())
    await asyncio.sleep(0)
    assert not waiting.done()
    channel.on_closed(from_code(406, "unknown delivery tag 7", "RabbitMQ"))
    with pytest.raises(ChatlabError, match="unknown delivery tag"):
        await waiting


async def test_a_consumer_that_could_not_be_attached_yet_is_not_over() -> None:
    class Refusing(FakeChannel):
        async def call(self, method: str, **arguments: Any) -> Any:
            if method == "basic_consume":
                error = NotYet("the stream is not up")
                if self.on_closed is not None:
                    self.on_closed(error)
                raise error
            return await super().call(method, **arguments)

    consumer, channel = await attached()
    consumer.detach(Lost("cut"))
    with pytest.raises(NotYet):
        await consumer.attach(Refusing())  # type: ignore[arg-type]
    assert not consumer.finished
    await consumer.attach(channel)  # type: ignore[arg-type]
    channel.arrive(1)
    assert len(await consumer.take()) == 1


async def test_a_stopped_consumer_hands_out_the_rest_and_then_nothing() -> None:
    consumer, channel = await attached()
    channel.arrive(1)
    await consumer.stop()
    assert channel.calls[-1] == "basic_cancel"
    assert len(await consumer.take()) == 1
    assert await consumer.take() == []


# --------------------------------------------------------------------------------- limit


def test_the_limit_of_open_files_is_as_high_as_allowed() -> None:
    resource = pytest.importorskip("resource")
    limit = raise_file_limit()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert limit == soft
    assert hard == resource.RLIM_INFINITY or soft == hard


def test_lost_is_a_service_that_does_not_answer() -> None:
    assert issubclass(Lost, ServiceUnavailable)


async def test_a_connection_that_is_reset_before_its_first_use_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = socket.create_connection(listener.getsockname())
        served, _ = listener.accept()
    served.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    served.close()  # by RST
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    told: asyncio.Future[Any] = loop.create_future()
    services = wire._Services(loop)
    services.create_streaming_connection(lambda: None, sock, told.set_result)
    async with asyncio.timeout(5):
        assert isinstance(await told, OSError)
    assert sock.fileno() == -1


async def test_what_else_pika_complains_of_is_not_taken_for_a_reset() -> None:
    services = wire._Services(asyncio.get_running_loop())
    with socket.socket() as sock, pytest.raises(ValueError, match="without ssl context"):
        services.create_streaming_connection(
            lambda: None, sock, print, ssl_context=None, server_hostname="somewhere"
        )
