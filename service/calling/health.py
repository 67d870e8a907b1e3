"""Asks a server, as load balancers do, whether it answers calls."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.calling.connection import Connection

SERVING = "SERVING"


def health_of(connection: Connection, service: str = "") -> str:
    """What a server says of itself, by the standard health protocol: SERVING, or NOT_SERVING while it starts or ends.

    One try: a probe is there to learn that it failed.

    Args:
        connection: how to reach the server; no token is needed.
        service: full name of one service; by default the server as a whole.

    Raises:
        ServiceError: If it does not answer in time, or knows no such service.
    """
    options = connection.options()
    if connection.encrypted:
        channel = grpc.secure_channel(connection.address, connection.credentials(), options)
    else:
        channel = grpc.insecure_channel(connection.address, options)
    with channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=connection.timeout_s)
        except grpc.RpcError as error:
            raise connection.failure(error) from None
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
