"""Feeds made-up bytes to everything behind the wire: `.venv/bin/python -m tests.service.gate.fuzz [SECONDS]`.

Each input is a method's number and its messages. They are read, converted and answered by the real behaviours over a
small cohort, behind the real guard; only statuses that are documented may come out. Needs atheris.
"""

import asyncio
import logging
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["service", "index.query", "index.search.search", "index.search.snapshot"]):
    import grpc

    from index.workspace import Workspace
    from service.config import ServerConfig
    from service.processes.worker_status import WorkerStatuses
    from service.roles import ALLOWED
    from service.server.worker import Server, WorkerSlot

from tests.conftest import commit, install_head, install_signs, make_cohort, publish_all
from tests.service.gate.attackers import METHODS
from tests.service.gate.test_hostile import DOCUMENTED, STARTS_WORK, VALID, request_class

NAMES = sorted(name for name in ALLOWED if name.startswith("/semiome") and name not in STARTS_WORK)
_MARK = b"\xff\0\xff"
"""Between the messages of a stream."""
_LIMITS = {"limits": {role: {"calls_per_s": 1e9, "searches_a_day": 10**15} for role in ("admin", "trainer")}}


class Context:
    """What gRPC gives a handler, as far as a server looks at it."""

    def __init__(self, metadata: tuple = ()) -> None:
        self.metadata, self.ended = metadata, "OK"

    def invocation_metadata(self):
        return self.metadata

    def peer(self):
        return "ipv4:192.0.2.7:50334"

    async def send_initial_metadata(self, metadata):
        pass

    def auth_context(self):
        return {}

    def time_remaining(self):
        return None

    def code(self):
        return grpc.StatusCode[self.ended]

    async def abort(self, code, message, metadata):
        self.ended = code.name
        raise grpc.aio.AbortError


class Fuzzed:
    """A server without its network."""

    def __init__(self, folder: Path) -> None:
        workspace = Workspace(folder / "workspace")
        commit(workspace, make_cohort())
        publish_all(workspace)
        install_head(workspace)
        install_signs(workspace, ("Semiology-tonic",))
        server = Server(workspace, ServerConfig(port=0, **_LIMITS), WorkerSlot(0, WorkerStatuses()))
        self._handlers = {method.name: server._guard.handler(method) for method in server._methods}
        self._loop = asyncio.new_event_loop()

    def __call__(self, data: bytes) -> None:
        """One call: a byte for the method, one for the length of metadata, metadata, then the messages."""
        name = NAMES[data[0] % len(NAMES)] if data else NAMES[0]
        start = 2 + (data[1] % 32 if len(data) > 1 else 0)
        seen, rest = data[2:start].decode("utf-8", "replace"), data[start:]
        messages = rest.split(_MARK)[:4] if METHODS[name].client_streaming else [rest]
        context = Context((("semiome-seen", seen),) if seen else ())
        self._loop.run_until_complete(self._ask(name, messages, context))
        if context.ended not in DOCUMENTED:
            raise RuntimeError(f"{name} answered {context.ended}")

    async def _ask(self, name: str, messages: list[bytes], context: Context) -> None:
        handler, method = self._handlers[name], METHODS[name]

        async def stream():
            for message in messages:
                yield message

        call = handler.stream_stream or handler.stream_unary
        try:
            if method.server_streaming:
                async for answer in call(stream(), context):
                    assert answer.SerializeToString() is not None
            else:
                answer = await call(stream(), context)
                assert isinstance(answer, bytes) or answer.SerializeToString() is not None
        except grpc.aio.AbortError:
            pass


def seeds(folder: Path) -> None:
    """A good request of each method, laid out as `Fuzzed` reads it."""
    folder.mkdir()
    for number, name in enumerate(NAMES):
        message = request_class(name)(**VALID.get(name, {})).SerializeToString()
        messages = _MARK.join([message] * (1 + METHODS[name].client_streaming))
        (folder / str(number)).write_bytes(bytes([number, 0]) + messages)


def main() -> None:
    """Run it for so many seconds, by default 60."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as slot:
        folder = Path(slot)
        seeds(folder / "seeds")
        fuzzed = Fuzzed(folder)
        limits = [
            f"-max_total_time={seconds}",
            "-max_len=1600",
            "-rss_limit_mb=0",
            "-print_final_stats=1",
            "-verbosity=0",
        ]
        atheris.Setup(
            [sys.argv[0], *limits, f"-artifact_prefix={tempfile.gettempdir()}/", str(folder / "seeds")], fuzzed
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
