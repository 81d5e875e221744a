"""Addresses from URLs, and the namespace of a lab on them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chatlab.errors import InvalidInput
from chatlab.services import namespaces, urls
from chatlab.services.addresses import RabbitAddress, RedisAddress
from chatlab.settings import Settings

#: The brokers in a lab's URL.
GOOD = "rabbitmq_url=amqp://u:s3cret@h/v&redis_url=redis://:s3cret@h:6379/0"


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


RABBIT = RabbitAddress(
    host="::1",
    port=5671,
    user="an@a",
    password="s/cret",
    vhost="chatlab-class",
    tls=True,
    management_url="https://broker:15671/prefix",
)
STORE = RedisAddress(host="store", port=6000, user="r", password="s&?=#cret", db=3, tls=True)


def test_a_labs_url_leads_to_the_same_brokers_and_says_who_may_administer() -> None:
    url = urls.lab_url("clasße", RABBIT, STORE, ("boss", "t@p"))
    assert url.startswith("chatlab://")
    assert urls.is_lab_url(url)
    assert not urls.is_lab_url("chatlab")
    lab, settings = urls.of_lab_url(url, Settings(send_seconds=7))
    assert (lab, settings.send_seconds) == ("clasße", 7)
    assert urls.rabbitmq_address(settings) == RABBIT
    assert urls.redis_address(settings) == STORE
    assert urls.administrator(settings, RABBIT) == ("boss", "t@p")
    other = urls.lab_url("clasße", replace(RABBIT, user="x"), STORE, ("boss", "other"))
    assert urls.same_lab(url, other)
    assert not urls.same_lab(url, url.replace("store", "elsewhere"))
    bare = urls.lab_url("a", replace(RABBIT, management_url=""), STORE, ("boss", "t@p"))
    assert urls.of_lab_url(bare, Settings(management_url="http://x"))[1].management_url == ""


@pytest.mark.parametrize(
    "url",
    [
        "chatlab://s3cret",
        "chatlab:s3cret",
        "chatlab://",
        "chatlab://s3cret@class?" + GOOD,
        "chatlab://class/s3cret?" + GOOD,
        "chatlab://class?" + GOOD + "#s3cret",
        "chatlab://class?" + GOOD + "&more=s3cret",
        "chatlab://class?s3cret&" + GOOD,
        "chatlab://class?" + GOOD.replace("redis_url", "rediss_url"),
        "chatlab://class?" + GOOD.replace("amqp", "http"),
        "chatlab://class?" + GOOD.replace("6379", "s3cret"),
        "chatlab://[s3cret?" + GOOD,
    ],
)
def test_what_is_no_labs_url_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        urls.of_lab_url(url, Settings())
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "s3cret" not in repr(caught.value.__context__)
