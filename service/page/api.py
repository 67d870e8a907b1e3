"""The API as browsers ask it: a method's request in protobuf's own JSON, and its answer in the same.

Fields have the names of `protos/`, so that page and API name things alike. The page asks with the caller's own token:
what a role may do is the service's to say. The list here keeps browsers from what the page does not need.
"""

from __future__ import annotations

import re
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from index.errors import InvalidInput
from protos import admin_pb2 as admin
from protos import catalog_pb2 as catalog
from protos import classification_pb2 as classification
from protos import retrieval_pb2 as retrieval
from protos import review_pb2 as review
from service.calling.connection import Rpc
from service.page.middleware import body_of
from service.page.sessions import Session

_METHODS: dict[Any, dict[str, tuple[str, ...]]] = {
    retrieval: {"RetrievalService": ("Search", "Recommend", "FindMoments", "GetSimilarity")},
    classification: {"ClassificationService": ("Classify", "GetSigns")},
    catalog: {"CatalogService": ("ListVideos", "GetVideo", "GetRecording", "GetCounts")},
    admin: {"AdminService": ("GetStatus", "ListGenerations")},
    review: {"ReviewService": ("GetMap", "ListFeedback", "SaveFeedback", "DeleteFeedback", "ListReports")},
}
_NOT_REPEATABLE = {"ReviewService/SaveFeedback"}


def _described() -> dict[str, tuple[type[Message], type[Message]]]:
    """Messages of each method's request and answer, by `Service/Method`."""
    return {
        f"{service}/{name}": (GetMessageClass(method.input_type), GetMessageClass(method.output_type))
        for module, services in _METHODS.items()
        for service, names in services.items()
        for name in names
        for method in (module.DESCRIPTOR.services_by_name[service].methods_by_name[name],)
    }


_MESSAGES = _described()


async def call(request: Request, session: Session) -> Response:
    """Make one call of the API.

    Raises:
        HTTPException: If browsers may not make it.
        InvalidInput: If the body is not its request.
        ServiceError: If the call failed, with its status.
    """
    name = f"{request.path_params['service']}/{request.path_params['method']}"
    if name not in _MESSAGES:
        raise HTTPException(404)
    wanted, response = _MESSAGES[name]
    message = parsed(await body_of(request), wanted)
    rpc = Rpc(f"/semiome.v1.{name}", message, response, _unread, repeatable=name not in _NOT_REPEATABLE)
    answer: Any = await session.client.ask(rpc)
    if isinstance(answer, classification.ClassifyResponse):
        _keep_clips(answer.verdict, request)
    return JSONResponse(as_json(answer))


def as_json(message: Message) -> dict[str, Any]:
    """A message as protobuf's JSON, fields without a value included."""
    values: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return values


def parsed(values: object, wanted: type[Message]) -> Message:
    """The message that protobuf's JSON says.

    Raises:
        InvalidInput: If it says none of this kind.
    """
    said = f"expected a {wanted.DESCRIPTOR.name} of the API as JSON"
    if not isinstance(values, dict):
        raise InvalidInput(said)
    try:
        return ParseDict(values, wanted())
    except (ParseError, ValueError, TypeError, OverflowError, RecursionError):
        raise InvalidInput(f"{said}: a field is unknown, or its value is of another kind") from None


def whole_number(text: str, field: str) -> int:
    """A number of a request's address.

    Raises:
        InvalidInput: If it is none, or has more than nine digits.
    """
    if not re.fullmatch(r"\d{1,9}", text):
        raise InvalidInput("expected a whole number", field=field)
    return int(text)


def _keep_clips(verdict: classification.Verdict, request: Request) -> None:
    """Leave those clips of a long recording that are shown: all of a day's would be megabytes."""
    asked = request.query_params
    first, end = (whole_number(asked.get(name, usual), name) for name, usual in (("from", "0"), ("until", "999999999")))
    kept = [one for one in verdict.clips if first <= one.clip.clip_index < end]
    del verdict.clips[:]
    verdict.clips.extend(kept)


def _unread(message: Message) -> Message:
    return message
