"""Write `docs/api.md` from the comments of the `.proto` files, or check that it is what they say.

Run from the repository root: `python -m protos.document [--check]`.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protos.compiler import ROOT, write_image

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

PAGE = ROOT / "docs" / "api.md"
PACKAGE = ".semiome.v1."
READ_IN = ("retrieval", "classification", "catalog", "review", "admin", "common")
"""The order of the files on the page: what most readers come for stands first."""

HEAD = """\
# The API

gRPC, package `semiome.v1`. This page is written from the comments of `protos/*.proto` by `make protos`.

## Asking by hand

`grpcurl` needs no file of ours: it asks the server by reflection what there is. On the server's own machine, where
no sign-in is configured:

```sh
grpcurl -plaintext localhost:50051 list
grpcurl -plaintext localhost:50051 describe semiome.v1.RetrievalService.Search
grpcurl -plaintext localhost:50051 grpc.health.v1.Health/Check
```

Where `semiome serve --config access/serve.toml` runs, as `semiome access init` has written it, TLS is spoken, and a
token is asked for:

```sh
semiome access token access --name anna --role clinician --out token
grpcurl -cacert access/ca.pem -H "authorization: Bearer $(cat token)" localhost:50051 list
grpcurl -cacert access/ca.pem -H "authorization: Bearer $(cat token)" localhost:50051 grpc.health.v1.Health/Check
```

A probe that knows what health is needs no token for it; `grpcurl` asks by reflection first, and that is for those who
have signed in. Where others see the processes of one's machine, `-expand-headers -H 'authorization: Bearer ${TOKEN}'`
takes the token from the environment.

The calls below are the same in both; `call` is one of the two:

```sh
call() { grpcurl -plaintext "$@"; }
call() { grpcurl -cacert access/ca.pem -H "authorization: Bearer $(cat token)" "$@"; }
```

The five videos of other patients that are most like a stored one; then those with one of two tags and of no test room:

```sh
call -d '{"query": {"video_id": "v0001"}, "options": {"k": 5, "group_by": "GROUP_BY_VIDEO"}}' \\
  localhost:50051 semiome.v1.RetrievalService/Search

call -d '{"query": {"video_id": "v0001"}, "options": {"filter": {
    "semiology": ["Semiology-versive", "Semiology-oroalimentary"], "none_of": [{"cameras": ["test"]}]}}}' \\
  localhost:50051 semiome.v1.RetrievalService/Search
```

Which class, temporal or extratemporal unless others are set: one video with all the evidence, then many in a stream,
where each message is answered as it comes and a video that is not stored has a status of its own:

```sh
call -d '{"item": {"video_id": "v0001"}}' \\
  localhost:50051 semiome.v1.ClassificationService/Classify

call -d '{"items": [{"video_id": "v0001"}, {"video_id": "v0002"}]} {"items": [{"video_id": "v0003"}]}' \\
  localhost:50051 semiome.v1.ClassificationService/ClassifyStream
```

`examples/node` is a small client in another language, which learns the API in the same way.

## When a call fails

A failed call has a code and a message for people. What programs can act on is in its details, messages of `google.rpc`
in `grpc-status-details-bin`, where gRPC's own libraries look: always `RequestInfo` with the id by which the server's
logs know the call (also in the metadata as `semiome-request-id`), and except for INTERNAL `ErrorInfo` with the domain
`semiome` and a reason. In batches and streams one item that fails has its status in the answer, and the call continues.
"""


@dataclass(frozen=True, slots=True)
class Failure:
    """A row of the table of failures.

    Attributes:
        code: of gRPC.
        reasons: what `ErrorInfo` may say.
        when: what it means, and what to do.
        details: what else is there.
    """

    code: str
    reasons: tuple[str, ...]
    when: str
    details: str = ""


FAILURES = (
    Failure(
        "INVALID_ARGUMENT",
        ("INVALID_INPUT", "MANIFEST_ERRORS", "VIDEO_REFUSED"),
        "The request is wrong, whatever is stored, or an uploaded video can't be trusted: change it.",
        "`BadRequest` with the field, where one is to blame",
    ),
    Failure("UNAUTHENTICATED", ("UNAUTHENTICATED",), "The call carries no credentials, or they are not accepted."),
    Failure("PERMISSION_DENIED", ("PERMISSION_REFUSED",), "None of the caller's roles may do this."),
    Failure("NOT_FOUND", ("NOT_FOUND",), "An id that is not stored."),
    Failure(
        "FAILED_PRECONDITION",
        ("STATE_ERROR", "ENCODER_MISMATCH", "LOCKED", "DISK_FULL"),
        "Right, but not now: the message says what has to be done first.",
        "`PreconditionFailure`",
    ),
    Failure(
        "RESOURCE_EXHAUSTED",
        ("TOO_MUCH",),
        "Too many calls, or the day's searches are used up: try again after the delay. Without details: the message is "
        "larger than the server takes.",
        "`RetryInfo` with the delay, `QuotaFailure` with what is used up",
    ),
    Failure(
        "DEADLINE_EXCEEDED", ("DEADLINE_PASSED",), "The caller's deadline passed. Said by one's own side: no details."
    ),
    Failure(
        "UNAVAILABLE",
        ("SHUTTING_DOWN", "SERVICE_ERROR"),
        "The server is ending: ask again, or another one. Without details: it could not be reached.",
    ),
    Failure(
        "DATA_LOSS", ("DAMAGED_DATA",), "Stored bytes are not those that were written: `semiome doctor` says which."
    ),
    Failure("INTERNAL", (), "A bug. The message has the id that the server's log knows it by, and nothing else."),
)


def page() -> str:
    """The whole page."""
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "api.binpb"
        write_image(image)
        every = FileDescriptorSet.FromString(image.read_bytes()).file
    ours = [file for file in every if f".{file.package}." == PACKAGE]
    ours.sort(key=lambda file: READ_IN.index(Path(file.name).stem))
    parts = [HEAD, "\n".join(failures()), "## Services\n\n" + "\n".join(contents(ours))]
    for file in ours:
        parts += services(file)
    for file in ours:
        parts += [f"## Messages of `{file.name}`", *messages(file)]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def failures() -> Iterator[str]:
    """The table of failures."""
    yield "| Code | Reason | Meaning | Details besides |\n|---|---|---|---|"
    for one in FAILURES:
        reasons = ", ".join(f"`{reason}`" for reason in one.reasons)
        yield f"| {one.code} | {reasons} | {one.when} | {one.details} |"


def contents(files: Iterable[FileDescriptorProto]) -> Iterator[str]:
    """Links to all methods."""
    for file in files:
        for service in file.service:
            methods = ", ".join(
                f"[{method.name}]({anchor(f'{service.name}.{method.name}')})" for method in service.method
            )
            yield f"- [{service.name}]({anchor(service.name)}): {methods}"


def services(file: FileDescriptorProto) -> Iterator[str]:
    """A section for each service of a file, and for each of its methods."""
    comments = comments_of(file)
    for i, service in enumerate(file.service):
        yield f"## {service.name}"
        yield paragraphs(comments[6, i])
        for j, method in enumerate(service.method):
            yield f"### {service.name}.{method.name}"
            asked = ("stream of " if method.client_streaming else "") + link(method.input_type)
            answered = ("stream of " if method.server_streaming else "") + link(method.output_type)
            yield f"{asked} → {answered}"
            yield paragraphs(comments[6, i, 2, j])


def messages(file: FileDescriptorProto) -> Iterator[str]:
    """A section for each message and each enum of a file."""
    comments = comments_of(file)
    for i, message in enumerate(file.message_type):
        yield from described(message, comments, (4, i), message.name)
    for i, enum in enumerate(file.enum_type):
        yield from listed(enum, comments, (5, i), enum.name)


def described(message: Any, comments: dict[tuple[int, ...], str], path: tuple[int, ...], name: str) -> Iterator[str]:  # noqa: ANN401
    """A message with its fields and the enums that stand in it."""
    yield f"### {name}"
    yield paragraphs(comments[path])
    rows = [
        f"| {field.number} | `{field.name}` | {type_of(field)} | "
        f"{cell(comments[(*path, 2, i)])}{choice(message, field)} |"
        for i, field in enumerate(message.field)
    ]
    yield "\n".join(["| | Field | Type | |\n|---|---|---|---|", *rows]) if rows else "No fields."
    for i, enum in enumerate(message.enum_type):
        yield from listed(enum, comments, (*path, 4, i), f"{name}.{enum.name}")


def listed(enum: Any, comments: dict[tuple[int, ...], str], path: tuple[int, ...], name: str) -> Iterator[str]:  # noqa: ANN401
    """An enum with its values."""
    yield f"### {name}"
    yield paragraphs(comments[path])
    rows = [
        f"| {value.number} | `{value.name}` | {cell(comments[(*path, 2, i)])} |" for i, value in enumerate(enum.value)
    ]
    yield "\n".join(["| | Value | |\n|---|---|---|", *rows])


def choice(message: Any, field: FieldDescriptorProto) -> str:  # noqa: ANN401
    """What the table adds for one of several of which one may be set."""
    if not field.HasField("oneof_index") or field.proto3_optional:
        return ""
    others = [f"`{one.name}`" for one in message.field if one.HasField("oneof_index") and not one.proto3_optional]
    return f" (One of {', '.join(others)}.)"


def type_of(field: FieldDescriptorProto) -> str:
    """A field's type, as a reader wants it."""
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Kind

    plain = f"`{Kind.Type.Name(field.type).removeprefix('TYPE_').lower()}`"
    name = link(field.type_name) if field.type_name else plain
    if field.label == Kind.LABEL_REPEATED:
        return f"repeated {name}"
    return f"optional {name}" if field.proto3_optional else name


def link(type_name: str) -> str:
    """A message or enum, with the way to its section; one of Google's, by its name alone."""
    if not type_name.startswith(PACKAGE):
        return f"`{type_name.removeprefix('.')}`"
    name = type_name.removeprefix(PACKAGE)
    return f"[{name}]({anchor(name)})"


def anchor(heading: str) -> str:
    """Where a page's heading is found."""
    return "#" + re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")


def comments_of(file: FileDescriptorProto) -> dict[tuple[int, ...], str]:
    """What stands above each thing of a file, by its path in the descriptor (see descriptor.proto)."""
    return {tuple(place.path): place.leading_comments for place in file.source_code_info.location}


def paragraphs(comment: str) -> str:
    """A comment as text: `Roles:` and `Errors:` begin paragraphs of their own."""
    text = re.sub(r"\n (?=Roles:|Errors:)", "\n\n ", comment.strip("\n"))
    found = [" ".join(part.split()) for part in re.split(r"\n *\n", text)]
    return "\n\n".join(re.sub("^(Roles|Errors):", r"**\1:**", part) for part in found)


def cell(comment: str) -> str:
    """A comment as one cell of a table."""
    return " ".join(comment.split()).replace("|", "\\|")


def main() -> None:
    """Write, or check."""
    text = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        raise SystemExit("docs/api.md is not what the .proto files say: run `make protos`")


if __name__ == "__main__":
    main()
