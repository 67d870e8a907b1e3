"""The error table knows every error, and nothing else reaches a client."""

import asyncio
import logging

import grpc
import pytest

import encoder.pipeline
import trainer.pretrain
from index.errors import SemiomeError
from service.errors import STATUS, DeadlinePassed, ErrorInterceptor, status_of

assert encoder.pipeline
assert trainer.pretrain


def subclasses(kind):
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


def test_every_error_that_a_server_can_raise_has_a_status():
    unknown = {kind for kind in subclasses(SemiomeError) if not any(base in STATUS for base in kind.__mro__)}

    assert {kind.__name__ for kind in unknown} == {"NonFiniteLoss"}  # raised by the trainer, which no server runs


def test_a_subclass_has_the_status_of_its_nearest_base():
    from index.errors import EncoderMismatch, ManifestErrors

    assert status_of(EncoderMismatch("x", "a", "b")) is grpc.StatusCode.FAILED_PRECONDITION
    assert status_of(ManifestErrors(["x"])) is grpc.StatusCode.INVALID_ARGUMENT


class Context:
    async def abort(self, code, message):
        self.code, self.message = code, message
        raise grpc.aio.AbortError


async def call(error):
    async def behaviour(request, context):
        raise error

    async def continuation(details):
        return grpc.unary_unary_rpc_method_handler(behaviour)

    class Details:
        method = "/semiome.v1.RetrievalService/Search"

    handler = await ErrorInterceptor().intercept_service(continuation, Details())
    context = Context()
    with pytest.raises(grpc.aio.AbortError):
        await handler.unary_unary(b"", context)
    return context.code, context.message


async def test_an_unexpected_error_shows_a_reference_and_no_text(caplog):
    with caplog.at_level(logging.ERROR):
        code, message = await call(RuntimeError("patient Jane Doe in /data/secret.mp4"))

    assert code is grpc.StatusCode.INTERNAL
    assert message.startswith("internal error, reference ")
    assert message.split()[-1] in caplog.text
    assert "RuntimeError" in caplog.text
    assert "Jane" not in message + caplog.text
    assert "secret" not in message + caplog.text


async def test_a_caller_who_has_gone_is_no_error(caplog):
    """grpc then fails to send the status; nothing is logged, nothing is sent twice."""

    class Gone(Context):
        async def abort(self, code, message):
            raise grpc.aio.InternalError("execute_batch")

    async def behaviour(request, context):
        raise DeadlinePassed("late")

    async def continuation(details):
        return grpc.unary_unary_rpc_method_handler(behaviour)

    class Details:
        method = "x"

    handler = await ErrorInterceptor().intercept_service(continuation, Details())
    with pytest.raises(asyncio.CancelledError):
        await handler.unary_unary(b"", Gone())
    assert caplog.text == ""


@pytest.mark.parametrize("kind", STATUS)
async def test_an_error_raised_on_purpose_shows_its_own_words(kind):
    error = kind("UNAVAILABLE", "the words") if kind.__name__ == "ServiceError" else kind("the words")

    code, message = await call(error)
    assert code is STATUS[kind]
    assert message.endswith("the words")
