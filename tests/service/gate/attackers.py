"""What attackers use: every method by name with raw bytes, tokens of their own making, servers that they may flood."""

import asyncio
import base64
import hmac
import json
import signal
import socket
import struct
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import jwt
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from protos import admin_pb2, catalog_pb2, classification_pb2, retrieval_pb2, review_pb2
from service.processes.worker_status import WorkerStatuses
from service.server.credentials import AUDIENCE, ISSUER
from service.server.worker import Server, WorkerSlot
from tests.forge import Forged
from tests.waiting import PATIENCE_S

METHODS = {
    f"/{service.full_name}/{method.name}": method
    for file in (retrieval_pb2, classification_pb2, catalog_pb2, review_pb2, admin_pb2, health_pb2, reflection_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if f"/{service.full_name}/{method.name}" != "/grpc.health.v1.Health/List"
}
"""Descriptors of all that a server answers, by full name; to list what is healthy is not among it."""
WATCH = "/grpc.health.v1.Health/Watch"


@dataclass(frozen=True)
class Served:
    """A server process: what it said of itself, and the file that its log goes to."""

    said: dict
    log: Path
    pid: int

    @property
    def address(self):
        return self.said["address"]


@contextmanager
def serving(workspace, *options):
    """A server process; its log goes to a file, since a full pipe would hold the server up."""
    log = workspace.root.parent / f"{workspace.root.name}.log"
    command = ["serve", "-w", workspace.root, "--port", "0", "--json", *options]
    with (
        log.open("w") as stream,
        Forged(*command, stdout=subprocess.PIPE, stderr=stream) as process,
    ):
        try:
            line = process.stdout.readline()
            assert line, log.read_text()
            yield Served(json.loads(line), log, process.pid)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()
    assert "Traceback" not in log.read_text()


@contextmanager
def answering(workspace, config):
    """A server in a thread of this process, where it is tried what it answers and not whether it lives; its address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = Server(workspace, config, WorkerSlot(0, WorkerStatuses()))

    async def begin():
        listener, port = server.listen()
        await listener.start()
        server.announce(ready=True)
        return listener, port

    async def end(listener):
        await server.drain(listener)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    try:
        listener, port = asyncio.run_coroutine_threadsafe(begin(), loop).result(PATIENCE_S)
        try:
            yield f"localhost:{port}"
        finally:
            asyncio.run_coroutine_threadsafe(end(listener), loop).result(PATIENCE_S)
            server.close()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def request_class(name):
    """The message that a method takes."""
    return GetMessageClass(METHODS[name].input_type)


def with_one_string(descriptor, text, depth=4):
    """Messages, as keywords, that hold a text in one of their fields each."""
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            values = [text]
        elif field.type == FieldDescriptor.TYPE_BYTES:
            values = [text.encode()]
        elif field.type == FieldDescriptor.TYPE_MESSAGE and depth:
            values = list(with_one_string(field.message_type, text, depth - 1))
        else:
            values = []
        for value in values:
            yield {field.name: [value] if field.is_repeated else value}


def start(channel, name, parts, timeout=PATIENCE_S, metadata=()):
    """Call a method with raw bytes; `parts` are the messages of a stream, or the one message."""
    method = METHODS.get(name)
    streams_in, streams_out = (method.client_streaming, method.server_streaming) if method else (False, False)
    kinds = {
        (False, False): channel.unary_unary,
        (True, False): channel.stream_unary,
        (False, True): channel.unary_stream,
        (True, True): channel.stream_stream,
    }
    call = kinds[streams_in, streams_out](name)
    given = iter(parts) if streams_in else parts[0]
    return call(given, timeout=timeout, metadata=metadata) if streams_out else call.future(given, timeout, metadata)


def outcome(channel, name, parts=(b"",), timeout=PATIENCE_S, metadata=()):
    """What a call ends with: (its code's name, all that the caller is told, as one text of bytes)."""
    call = start(channel, name, list(parts), timeout, metadata)
    said = b""
    try:
        if name in METHODS and METHODS[name].server_streaming:
            for answer in call:
                said += answer
                if name == WATCH:
                    call.cancel()
                    return "OK", said
        else:
            said = call.result()
    except grpc.RpcError as error:
        said += (error.details() or "").encode()
        for key, value in error.trailing_metadata() or ():
            said += f"{key} ".encode() + (value if isinstance(value, bytes) else value.encode())
        return error.code().name, said
    return "OK", said


def code(channel, name, parts=(b"",), timeout=PATIENCE_S, metadata=()):
    """The name of the code that a call ends with."""
    return outcome(channel, name, parts, timeout, metadata)[0]


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What an HTTP/2 client says first."""


@contextmanager
def connected(address):
    """A connection that has said nothing yet."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
        yield connection


def frame(kind, flags, stream, data=b""):
    """A frame of HTTP/2."""
    return struct.pack(">I", len(data))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + data


def headers(name, *more):
    """The header block of a call, in the plainest form that HPACK has."""
    said = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", name.encode()), (b":authority", b"x"))
    said += ((b"te", b"trailers"), (b"content-type", b"application/grpc"), *more)
    return b"".join(b"\0" + bytes([len(key)]) + key + bytes([len(value)]) + value for key, value in said)


def raw_calls(address, calls, name, *more, reset=False, data=b"\0\0\0\0\0"):
    """Calls by hand on one connection, as no client library would make them."""
    with connected(address) as connection:
        connection.sendall(PREFACE + frame(4, 0, 0))
        for number in range(calls):
            stream = 2 * number + 1
            sent = frame(1, 4, stream, headers(name, *more)) + frame(0, 0 if reset else 1, stream, data)
            connection.sendall(sent + (frame(3, 0, stream, struct.pack(">I", 8)) if reset else b""))
        connection.settimeout(0.5)
        received = b""
        try:
            while got := connection.recv(65536):
                received += got
        except (TimeoutError, ConnectionResetError):
            pass
    return received


def bearer(token):
    """Metadata that carries a token."""
    return (("authorization", f"Bearer {token}"),)


def claims(**changed):
    """What a good token says, with changes; None leaves a claim out."""
    now = int(time.time())
    good = {"sub": "eve", "roles": ["admin"], "iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + 600}
    return {name: value for name, value in {**good, **changed}.items() if value is not None}


def signed(key, kid, algorithm="EdDSA", **changed):
    """A token by the library."""
    return jwt.encode(claims(**changed), key, algorithm=algorithm, headers={"kid": kid})


def forged(header, secret=b"", **changed):
    """A token by hand, as no library would make it: unsigned, or signed with a secret by HMAC."""
    parts = [json.dumps(header).encode(), json.dumps(claims(**changed)).encode()]
    text = b".".join(map(_encoded, parts))
    signature = _encoded(hmac.digest(secret, text, "sha256")) if secret else b""
    return (text + b"." + signature).decode()


def _encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")
