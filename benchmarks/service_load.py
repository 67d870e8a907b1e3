"""Servers to measure against and load to measure with, each a process of its own: used by `service.py`.

The callers are those of `http2_load.py`, the same for every server.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import http2_load
import numpy as np

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
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("semiome.v1.RetrievalService", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"address": f"127.0.0.1:{port}"}), flush=True)
    await server.wait_for_termination()


def load(
    address: str, method: str, requests: list[bytes], clients: int, seconds: float, rate: float, tries: int
) -> dict[str, Any]:
    """Load a server, see `http2_load.load`; with a rate, health is asked twice a second meanwhile.

    Returns:
        calls, refused, tries made again, seconds, calls a second, and latencies in ms: of answers, refusals, health.
    """
    health: list[float] = []
    if rate:
        threading.Thread(target=_ask_health, args=(address, health), daemon=True).start()
    told = http2_load.load(address, method, requests, clients, seconds, rate, tries)
    return {
        "calls": len(told.answered),
        "refused": len(told.refused),
        "again": told.again,
        "seconds": told.seconds,
        "a_second": len(told.answered) / told.seconds,
        "ms": _quantiles(told.answered),
        "refused_ms": _quantiles(told.refused),
        "health_ms": _quantiles(health),
    }


def _ask_health(address: str, seconds: list[float]) -> None:
    with grpc.insecure_channel(address) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        while True:
            began = time.perf_counter()
            check(b"", timeout=30)
            seconds.append(time.perf_counter() - began)
            time.sleep(0.5)


def _quantiles(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    values = np.array(seconds) * 1e3
    return {name: float(np.quantile(values, q)) for name, q in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}


def run_load(
    address: str,
    requests: Path,
    method: str = SEARCH,
    clients: int = 64,
    seconds: float = 5.0,
    rate: float = 0.0,
    tries: int = 1,
) -> dict[str, Any]:
    """Load a server from a process of its own and give what `load` gives."""
    how = (clients, seconds, rate, tries)
    command = [sys.executable, __file__, "load", address, method, str(requests), *map(str, how)]
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
    _, _, address, method, path, clients, seconds, rate, tries = sys.argv
    with np.load(path) as stored:
        requests = [stored[name].tobytes() for name in stored.files]
    told = load(address, method, requests, int(clients), float(seconds), float(rate), int(tries))
    print(json.dumps(told))


if __name__ == "__main__":
    main()
