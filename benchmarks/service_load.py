"""Servers to measure against and load to measure with, each a process of its own: used by `service.py`.

The load sends messages that are made beforehand and reads no answer but its code, so that it costs as little of the
machine as Python allows; it is the same for every server.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2

CHANNELS = 8
SEARCH = "/semiome.v1.RetrievalService/Search"


async def empty_server(answers: str) -> None:
    """A grpc.aio server that does nothing: each method parses its request and answers with a fixed message."""
    from protos import retrieval_pb2 as retrieval

    fixed = {
        name: getattr(retrieval, f"{name}Response").FromString(Path(answers, name).read_bytes())
        for name in ("Search", "SearchBatch")
    }

    def handler(name: str) -> Any:  # noqa: ANN401
        async def answer(request: object, context: object) -> object:  # noqa: ARG001
            return fixed[name]

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=getattr(retrieval, f"{name}Request").FromString,
            response_serializer=getattr(retrieval, f"{name}Response").SerializeToString,
        )

    server = grpc.aio.server()
    methods = {name: handler(name) for name in fixed}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("semiome.v1.RetrievalService", methods),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"address": f"127.0.0.1:{port}"}), flush=True)
    await server.wait_for_termination()


async def load(address: str, method: str, requests: list[bytes], clients: int, seconds: float, rate: float) -> dict:
    """Callers who each wait for an answer before the next call, or, with a rate, calls that come whatever happens.

    Returns:
        calls, failed (by code), seconds, and latencies in ms: of answers, and of refusals.
    """
    channels = [grpc.aio.insecure_channel(address, [("semiome.channel", n)]) for n in range(CHANNELS)]
    calls = [channel.unary_unary(method) for channel in channels]
    await asyncio.gather(*(call(requests[0]) for call in calls))  # connected
    answered: list[float] = []
    failed: dict[str, list[float]] = {}
    health: list[float] = []
    started = time.perf_counter()
    until = started + seconds

    async def one(number: int, due: float) -> None:
        try:
            await calls[number % CHANNELS](requests[number % len(requests)])
            answered.append(time.perf_counter() - due)
        except grpc.aio.AioRpcError as error:
            failed.setdefault(error.code().name, []).append(time.perf_counter() - due)

    async def caller(number: int) -> None:
        while time.perf_counter() < until:
            await one(number, time.perf_counter())
            number += clients

    async def probe() -> None:
        check = channels[0].unary_unary("/grpc.health.v1.Health/Check")
        while time.perf_counter() < until:
            began = time.perf_counter()
            await check(health_pb2.HealthCheckRequest().SerializeToString())
            health.append(time.perf_counter() - began)
            await asyncio.sleep(0.5)

    if rate:
        probing = asyncio.create_task(probe())
        running, number, due = set(), 0, started
        while due < until:
            now = time.perf_counter()
            while due <= now:
                task = asyncio.create_task(one(number, time.perf_counter()))
                running.add(task)
                task.add_done_callback(running.discard)
                number, due = number + 1, due + 1 / rate
            await asyncio.sleep(max(due - time.perf_counter(), 0))
        await asyncio.gather(*running)
        await probing
    else:
        await asyncio.gather(*(caller(number) for number in range(clients)))
    took = time.perf_counter() - started
    for channel in channels:
        await channel.close()
    return {
        "calls": len(answered),
        "failed": {code: len(times) for code, times in failed.items()},
        "seconds": took,
        "a_second": len(answered) / took,
        "ms": _quantiles(answered),
        "refused_ms": _quantiles([one for times in failed.values() for one in times]),
        "health_ms": _quantiles(health),
    }


def _quantiles(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    values = np.array(seconds) * 1e3
    return {name: float(np.quantile(values, q)) for name, q in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}


def run_load(
    address: str, requests: Path, method: str = SEARCH, clients: int = 64, seconds: float = 5.0, rate: float = 0.0
) -> dict[str, Any]:
    """Load a server from a process of its own and give what `load` gives."""
    command = [sys.executable, __file__, "load", address, method, str(requests), str(clients), str(seconds), str(rate)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def write_requests(path: Path, messages: list[bytes]) -> None:
    """Messages that a load sends, one after the other."""
    np.savez(path, *[np.frombuffer(message, np.uint8) for message in messages])


@contextmanager
def process(*command: str) -> Iterator[dict[str, Any]]:
    """A server process for the length of the block; yields the JSON object that it prints when it is ready."""
    server = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield {**json.loads(server.stdout.readline()), "pid": server.pid}
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    """Be one of the processes."""
    if sys.argv[1] == "empty":
        asyncio.run(empty_server(sys.argv[2]))
        return
    _, _, address, method, path, clients, seconds, rate = sys.argv
    with np.load(path) as stored:
        requests = [stored[name].tobytes() for name in stored.files]
    print(json.dumps(asyncio.run(load(address, method, requests, int(clients), float(seconds), float(rate)))))


if __name__ == "__main__":
    main()
