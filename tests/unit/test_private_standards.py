"""Stock clients: health and reflection as the standard packages speak them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from private_rig import PATIENCE_SECONDS, quick_settings, rig

from chatlab.private.security import LAB_SECRET_KEY
from chatlab.private.server import SERVICE

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def stock_channel(address: object) -> Any:
    return grpc.aio.insecure_channel(str(address), [("grpc.use_local_subchannel_pool", 1)])


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_health_is_serving_overall_and_for_the_service(service: str) -> None:
    async with rig() as r, stock_channel(r.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
        assert answer.status == SERVING


async def test_health_of_a_service_that_is_not_there_is_not_found() -> None:
    async with rig() as r, stock_channel(r.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service="x"), timeout=5)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_who_watches_a_stopping_server_is_told_before_it_is_gone(service: str) -> None:
    async with rig() as r, stock_channel(r.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watching = stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=30)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert (await watching.read()).status == SERVING
            stopping = asyncio.create_task(r.stop())
            assert (await watching.read()).status == NOT_SERVING
            with pytest.raises(grpc.aio.AioRpcError):
                await watching.read()
            await stopping


async def test_a_started_again_server_is_serving_again() -> None:
    async with rig() as r:
        await r.stop()
        await r.start()
        async with stock_channel(r.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
            assert answer.status == SERVING


async def test_reflection_lists_the_services_and_describes_them() -> None:
    async with rig() as r:
        services, service = await asyncio.to_thread(reflect, str(r.address))
    assert services == {
        "chatlab.v1.PrivateChatService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    methods = [method.name for method in service.methods]
    assert methods == ["Claim", "Send", "Receive", "GetHistory", "GetPresence"]
    fields = service.methods_by_name["Claim"].input_type.fields
    assert [field.name for field in fields] == ["name", "secret", "incarnation"]


def reflect(address: str, secret: bytes = b"") -> tuple[set[str], Any]:
    """What the stock client of reflection, which blocks, learns of a server."""
    with grpc.insecure_channel(address) as channel:
        if secret:
            channel = grpc.intercept_channel(channel, _Show(secret))
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = descriptor_pool.DescriptorPool(database)
        return set(database.get_services()), pool.FindServiceByName(SERVICE)


class _Show(grpc.StreamStreamClientInterceptor):  # type: ignore[misc]
    """What ``grpcurl -H 'chatlab-lab-secret-bin: …'`` does."""

    def __init__(self, secret: bytes) -> None:
        self._metadata = ((LAB_SECRET_KEY, secret),)

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        return continuation(_Details(details, self._metadata), requests)


class _Details(grpc.ClientCallDetails):  # type: ignore[misc]
    def __init__(self, details: Any, metadata: Any) -> None:
        self.method, self.timeout, self.metadata = details.method, details.timeout, metadata
        self.credentials = self.wait_for_ready = self.compression = None


async def test_reflection_asks_for_the_labs_secret_and_for_no_session() -> None:
    async with rig(settings=quick_settings(lab_secret="sesame")) as r:
        with pytest.raises(grpc.RpcError) as caught:
            await asyncio.to_thread(reflect, str(r.address))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        services, _ = await asyncio.to_thread(reflect, str(r.address), b"sesame")
        assert SERVICE in services


def test_importing_the_library_imports_none_of_it() -> None:
    code = "import sys, chatlab; print([m for m in sys.modules if m.split('.')[0] in WORDS])"
    words = repr(("grpc", "grpc_health", "grpc_reflection", "trustme", "cryptography"))
    command = [sys.executable, "-c", code.replace("WORDS", words)]
    ended = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "[]\n"
