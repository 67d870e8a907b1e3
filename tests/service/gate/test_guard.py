"""The error table knows every error, and nothing else reaches a caller."""

import asyncio
import logging

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2, status_pb2

import encoder.job.pipeline
import trainer.pretraining.pretrain
from index.errors import DiskFull, EncoderMismatch, InvalidInput, ManifestErrors, NotFound, SemiomeError, StateError
from service import roles
from service.audit.log import AuditLog
from service.audit.trail import of_patient
from service.config import ServerConfig
from service.errors import STATUS, DeadlinePassed, TooMuch, rich_status, status_of
from service.gate.call import Method
from service.gate.callers import Callers
from service.gate.limits import Limits
from service.gate.middleware import Middleware
from service.gate.refusals import Refusals
from service.metadata import DETAILS, REQUEST_ID, SEEN
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import NoTracer

pytestmark = pytest.mark.needs("torch")

assert encoder.job.pipeline
assert trainer.pretraining.pretrain


def subclasses(kind):
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


def test_every_error_that_a_server_can_raise_has_a_status():
    unknown = {kind for kind in subclasses(SemiomeError) if not any(base in STATUS for base in kind.__mro__)}

    assert {kind.__name__ for kind in unknown} == {"NonFiniteLoss"}  # raised by the trainer, which no server runs


def test_a_subclass_has_the_status_of_its_nearest_base():
    assert status_of(EncoderMismatch("x", "a", "b")) is grpc.StatusCode.FAILED_PRECONDITION
    assert status_of(ManifestErrors(["x"])) is grpc.StatusCode.INVALID_ARGUMENT
    assert status_of(DiskFull()) is grpc.StatusCode.FAILED_PRECONDITION


def details_of(error):
    """Details by the name of their message."""
    found = {}
    for part in rich_status(error, "r1").details:
        kind = getattr(error_details_pb2, part.TypeName().rsplit(".", 1)[1])
        found[kind.__name__] = kind.FromString(part.value)
    return found


def test_a_wrong_field_is_named():
    details = details_of(InvalidInput("expected k", field="options.k"))

    violation = error_details_pb2.BadRequest.FieldViolation(field="options.k", description="expected k")
    assert list(details["BadRequest"].field_violations) == [violation]
    assert (details["ErrorInfo"].reason, details["ErrorInfo"].domain) == ("INVALID_INPUT", "semiome")
    assert details["RequestInfo"].request_id == "r1"


def test_what_has_to_be_done_first_is_a_precondition():
    details = details_of(EncoderMismatch("head", "a", "b"))

    (violation,) = details["PreconditionFailure"].violations
    assert (violation.type, violation.subject) == ("ENCODER_MISMATCH", "server")


def test_whoever_has_to_wait_is_told_how_long():
    details = details_of(TooMuch("wait", 1.5, "calls a second"))

    assert details["RetryInfo"].retry_delay.ToTimedelta().total_seconds() == 1.5
    assert details["QuotaFailure"].violations[0].subject == "calls a second"


class Context:
    """What gRPC gives a handler, as far as the guard looks at it."""

    def __init__(self, metadata=(), remaining=None):
        self.metadata, self.remaining = metadata, remaining

    def invocation_metadata(self):
        return self.metadata

    def peer(self):
        return "ipv4:192.0.2.7:50334"

    def time_remaining(self):
        return self.remaining

    def code(self):
        return self.status[0]

    async def abort(self, *status):
        self.status = status
        raise grpc.aio.AbortError


class Erasing:
    """A source that tells of erasures as a test says."""

    def __init__(self):
        self.erasures, self.is_new, self.gone = 0, False, set()

    def erased_is_new(self):
        return self.is_new

    def withhold_erased(self):
        self.erasures, self.is_new = self.erasures + 1, False

    def is_erased(self, patient_id):
        return patient_id in self.gone


@pytest.fixture
def guard(stored):
    config = ServerConfig(max_calls=2)
    seen = []

    async def catch_up(what):
        seen.append(what)

    limits = Limits(config, stored.root / "audit" / "quota.sqlite")
    source = Erasing()
    audit = AuditLog(stored)
    given = (config, Callers(config), limits, audit, Refusals(audit), Metrics(), NoTracer(), source, catch_up, None)
    guard = Middleware(*given)
    guard.source = source
    guard.seen, guard.workspace = seen, stored
    return guard


NAME = "/semiome.v1.RetrievalService/Search"


async def said(*messages):
    """What a caller sends."""
    for message in messages:
        yield message


async def ask(guard, behaviour, context, data=b"", name=NAME):
    called = guard.handler(Method(name, StringValue, behaviour)).stream_unary(said(data), context)
    try:
        return await asyncio.create_task(called)
    finally:
        await asyncio.sleep(0)  # what follows the task


async def status_after(guard, error, context=None):
    async def behaviour(request, call):
        raise error

    context = context or Context()
    with pytest.raises(grpc.aio.AbortError):
        await ask(guard, behaviour, context)
    return context.status


async def test_an_unexpected_error_shows_a_reference_and_no_text(guard, caplog):
    with caplog.at_level(logging.INFO):
        code, message, metadata = await status_after(guard, RuntimeError("patient Jane Doe in /data/secret.mp4"))

    assert code is grpc.StatusCode.INTERNAL
    assert message.startswith("internal error, reference ")
    assert message.split()[-1] == dict(metadata)[REQUEST_ID]
    assert message.split()[-1] in caplog.text
    assert "RuntimeError" in caplog.text
    assert "Jane" not in message + caplog.text
    assert "secret" not in message + caplog.text


@pytest.mark.parametrize("kind", STATUS)
async def test_an_error_raised_on_purpose_shows_its_own_words(guard, kind):
    words = {"ServiceError": ("UNAVAILABLE", "the words"), "TooMuch": ("the words", 1.0, "calls")}
    error = kind(*words.get(kind.__name__, ("the words",)))

    code, message, metadata = await status_after(guard, error)
    assert code is STATUS[kind]
    assert message.endswith("the words")
    status = status_pb2.Status.FromString(dict(metadata)[DETAILS])
    assert (status.code, status.message) == (code.value[0], message)


async def test_a_caller_who_has_gone_is_no_error(guard):
    """grpc then fails to send the status; nothing is sent twice."""

    class Gone(Context):
        async def abort(self, *status):
            raise grpc.aio.InternalError("execute_batch")

    async def behaviour(request, call):
        raise DeadlinePassed("late")

    with pytest.raises(asyncio.CancelledError):
        await ask(guard, behaviour, Gone())


async def test_one_call_too_many_is_refused_and_the_others_are_answered(guard):
    go = asyncio.Event()

    async def behaviour(request, call):
        await go.wait()
        return StringValue(value="done")

    waiting = [asyncio.create_task(ask(guard, behaviour, Context())) for _ in range(2)]
    await asyncio.sleep(0)
    refused = Context()
    with pytest.raises(grpc.aio.AbortError):
        await ask(guard, behaviour, refused)
    go.set()

    assert refused.status[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert [one.value for one in await asyncio.gather(*waiting)] == ["done", "done"]
    assert (await ask(guard, behaviour, Context())).value == "done"


async def test_a_cancelled_call_gives_its_place_back(guard):
    async def behaviour(request, call):
        await asyncio.sleep(60)

    for _ in range(5):
        task = asyncio.create_task(ask(guard, behaviour, Context()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def answers(request, call):
        return request

    assert await ask(guard, answers, Context()) == StringValue()


async def test_a_deadline_is_looked_at_before_each_stage(guard):
    stages = []

    async def behaviour(request, call):
        for stage in range(3):
            call.check_deadline()
            stages.append(stage)
            if stage == 1:
                call.deadline = asyncio.get_running_loop().time()  # it passes meanwhile

    context = Context(remaining=60)
    with pytest.raises(grpc.aio.AbortError):
        await ask(guard, behaviour, context)
    assert context.status[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    assert stages == [0, 1]


async def test_what_a_caller_has_seen_is_caught_up_with_before_the_answer(guard):
    async def behaviour(request, call):
        return StringValue(value=guard.seen[0])

    answer = await ask(guard, behaviour, Context(metadata=((SEEN, "000002-ab/7"),)))
    assert answer.value == "000002-ab/7"


async def test_what_is_no_message_is_refused_without_the_parsers_words(guard):
    async def behaviour(request, call):
        return request

    context = Context()
    with pytest.raises(grpc.aio.AbortError):
        await ask(guard, behaviour, context, b"\xff\xff")
    assert context.status[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "the request is not a message of this method")


async def test_an_answer_that_can_not_be_logged_is_not_given(guard, monkeypatch):
    async def behaviour(request, call):
        call.reads(None, ["p1"])
        return request

    def full(*_, **__):
        raise DiskFull  # as a write of the lines would

    assert await ask(guard, behaviour, Context()) == StringValue()
    assert [line["code"] for line in of_patient(guard.workspace, "p1")] == ["OK"]
    monkeypatch.setattr(guard._audit, "append", full)
    context = Context()
    with pytest.raises(grpc.aio.AbortError):
        await ask(guard, behaviour, context)
    assert context.status[0] is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_method_that_is_not_in_the_table_is_refused_to_everybody(guard):
    async def behaviour(request, call):
        return request

    context = Context()
    with pytest.raises(grpc.aio.AbortError):
        await ask(guard, behaviour, context, name="/semiome.v1.RetrievalService/Forgotten")
    assert context.status[0] is grpc.StatusCode.PERMISSION_DENIED
    assert "/semiome.v1.RetrievalService/Forgotten" not in roles.ALLOWED


@pytest.mark.parametrize("error", [NotFound("x"), StateError("x")])
async def test_a_refusal_is_logged_once(guard, error):
    await status_after(guard, error)
    await asyncio.sleep(0.01)  # it is written in the loop's next turn

    lines = (guard.workspace.root / "audit" / "000001.jsonl").read_text().splitlines()
    assert len(lines) == 1
    assert status_of(error).name in lines[0]


async def test_nothing_of_a_patient_who_is_erased_meanwhile_is_answered(guard):
    async def behaviour(request, call):
        call.reads(None, ["p1"])
        guard.source.is_new, guard.source.gone = True, gone
        return request

    gone = {"p2"}
    assert await ask(guard, behaviour, Context()) == StringValue()
    gone = {"p1"}
    context = Context()
    with pytest.raises(grpc.aio.AbortError):
        await ask(guard, behaviour, context)
    assert context.status[:2] == (
        grpc.StatusCode.UNAVAILABLE,
        "a patient has been erased as this was answered: ask again",
    )
    assert [line["code"] for line in of_patient(guard.workspace, "p1")] == ["OK", "UNAVAILABLE"]


async def test_a_film_ends_where_its_patient_is_erased(guard):
    async def behaviour(request, call):
        call.reads(None, ["p1"])
        yield request
        guard.source.is_new, guard.source.gone = True, {"p1"}
        yield request

    handler = guard.handler(Method(NAME, StringValue, behaviour, streams_out=True)).stream_stream
    context, answers = Context(), []
    with pytest.raises(grpc.aio.AbortError):
        await collect(handler(said(b""), context), answers)
    assert len(answers) == 1
    assert context.status[0] is grpc.StatusCode.UNAVAILABLE


async def test_a_stream_that_is_silent_gives_its_place_back(guard, monkeypatch):
    from service.gate import middleware as module

    monkeypatch.setattr(module, "_IDLE_S", 0.05)

    async def requests():
        yield b""
        await asyncio.sleep(5)

    async def behaviour(requests, call):
        async for request in requests:
            yield request

    handler = guard.handler(Method(NAME, StringValue, behaviour, streams_in=True, streams_out=True)).stream_stream
    context, answers = Context(), []
    with pytest.raises(grpc.aio.AbortError):
        await asyncio.create_task(collect(handler(requests(), context), answers))
    await asyncio.sleep(0)
    assert len(answers) == 1
    assert context.status[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    assert guard._places.taken == 0


async def collect(stream, into):
    async for one in stream:
        into.append(one)
