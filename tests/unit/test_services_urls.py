"""Addresses from URLs, and the namespace of a lab on them."""

from __future__ import annotations

import pytest

from chatlab.errors import InvalidInput
from chatlab.services import namespaces, urls
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.settings import Settings


def test_no_url_means_private_brokers() -> None:
    assert urls.rabbitmq_address(Settings()) is None
    assert urls.redis_address(Settings()) is None


def test_parts_of_a_url_are_decoded_and_defaults_filled_in() -> None:
    full = urls.rabbitmq_address(
        Settings(
            rabbitmq_url="amqps://an%40a:s%2Fcret@broker:5000/my%2Fhost",
            management_url="https://boss:secret@broker:15000/prefix",
        )
    )
    assert full == RabbitAddress(
        host="broker",
        port=5000,
        user="an@a",
        password="s/cret",
        vhost="my/host",
        tls=True,
        management_url="https://broker:15000/prefix",
    )
    plain = urls.rabbitmq_address(Settings(rabbitmq_url="amqp://broker"))
    assert plain is not None
    assert (plain.port, plain.user, plain.vhost, plain.tls) == (5672, "guest", "/", False)
    redis = urls.redis_address(Settings(redis_url="redis://:s%40@store:6000/3"))
    assert redis == RedisAddress(host="store", port=6000, password="s@", db=3)


@pytest.mark.parametrize(
    "values",
    [
        {"rabbitmq_url": "http://:hunter2@broker"},
        {"rabbitmq_url": "amqp://:hunter2@"},
        {"rabbitmq_url": "amqp://a:hunter2@broker:99999"},
        {"rabbitmq_url": "amqp://b", "management_url": "amqp://:hunter2@b"},
        {"redis_url": "redis://:hunter2@store/first"},
    ],
)
def test_another_kind_of_url_is_refused_without_showing_its_secret(
    values: dict[str, str],
) -> None:
    settings = Settings(**values)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput) as caught:
        urls.rabbitmq_address(settings)
        urls.redis_address(settings)
    assert "hunter2" not in str(caught.value)


def test_the_management_url_may_have_a_user_of_its_own() -> None:
    settings = Settings(
        rabbitmq_url="amqp://ana:a@broker", management_url="http://boss:b@broker:15672"
    )
    address = urls.rabbitmq_address(settings)
    assert address is not None
    assert urls.administrator(settings, address) == ("boss", "b")
    space = namespaces.of_lab("x-1", address, RedisAddress(host="s", port=1), ("boss", "b"))
    assert (space.rabbitmq.vhost, space.rabbitmq.user) == ("chatlab-x-1", "ana")
    assert space.administrator is not None
    assert (space.administrator.vhost, space.administrator.user) == ("chatlab-x-1", "boss")
    assert space.redis.prefix == "chatlab:x-1:"


def test_without_a_management_api_the_urls_own_virtual_host_is_used() -> None:
    address = RabbitAddress(host="b", port=1, user="u", password="p", vhost="mine")
    space = namespaces.of_lab("x-1", address, RedisAddress(host="s", port=1))
    assert space.administrator is None
    assert space.rabbitmq.vhost == "mine"
