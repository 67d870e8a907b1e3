"""What the dearest kilobyte costs a server: for each method, the request of at most 1,024 bytes that takes most of it.

    .venv/bin/python benchmarks/dearest.py [--clips 100000]

Serves the made-up cohort of `cohorts.py` and asks as an administrator, whose answers no role makes smaller. For each
method several requests are tried, each three times where it is quick; the one that takes most processor time is shown,
as a row of the table in docs/service.md: processor time, wall time, bytes answered, and how far memory rose above what
was held before.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import grpc
import psutil
from figures import say
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from service_load import process
from service_store import fill

from index.feedback.statement import Feedback
from index.feedback.store import FeedbackStore
from index.tables.store import Store
from index.workspace import Workspace
from protos import admin_pb2, catalog_pb2, classification_pb2, common_pb2, retrieval_pb2, review_pb2
from service.metadata import SEEN
from service.serving.state import MAX_ANSWERED

MOST_BYTES = 1024
TRIES, LONG_S = 3, 2.0
"""What takes longer is asked once."""
R, C, K, V, A = retrieval_pb2, classification_pb2, catalog_pb2, review_pb2, admin_pb2
_V = "/semiome.v1."
_FILE = reflection_pb2.ServerReflectionRequest(file_containing_symbol="semiome.v1.RetrievalService")
Tried = tuple[str, list[Message], Iterable[str]]


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser()
    options.add_argument("--clips", type=int, default=100_000)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder) / "workspace")
        fill(workspace, chosen.clips)
        videos = sorted(Store(workspace).videos())
        stored = Store(workspace).clips("bench").clips
        clips = [stored[row].clip_id for row in range(200)]
        notes = FeedbackStore(workspace)
        for number in range(1000):
            notes.save(Feedback(videos[number % len(videos)], "", label="TLE", note="x" * 500), "anna")
        command = ["-m", "semiome", "serve", "-w", str(workspace.root), "--port", "0", "--json"]
        with process(*command) as said, grpc.insecure_channel(said["address"], MESSAGES) as channel:
            measure(channel, psutil.Process(said["pid"]), videos, clips)


MESSAGES = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def measure(channel: grpc.Channel, server: psutil.Process, videos: list[str], clips: list[str]) -> None:
    """Print the table."""
    sys.stdout.write("| door | the dearest request found | CPU | wall | answer | memory |\n|---|---|---|---|---|---|\n")
    for path, tried in doors(videos, clips).items():
        found = [(*cost(channel, server, path, requests, seen), words) for words, requests, seen in tried]
        cpu, wall, answered, grown, words = max(found)
        name = path.rsplit("/", 1)[1]
        sys.stdout.write(
            f"| {name} | {words} | {1000 * cpu:.0f} ms | {1000 * wall:.0f} ms | {answered / 1024:,.0f} KB "
            f"| {grown / 2**20:.0f} MiB |\n"
        )
        sys.stdout.flush()


def cost(
    channel: grpc.Channel, server: psutil.Process, path: str, requests: list[Message], seen: Iterable[str]
) -> tuple[float, float, int, int]:
    """Median processor seconds, wall seconds, bytes answered and bytes of memory, of one call."""
    pure: grpc.StreamStreamMultiCallable = channel.stream_stream(path)
    metadata = [(SEEN, one) for one in seen]
    tries = []
    for _ in range(TRIES):
        Path(f"/proc/{server.pid}/clear_refs").write_text("5", encoding="ascii")
        before, used, started = server.memory_info().rss, sum(server.cpu_times()[:2]), time.monotonic()
        answered = 0
        try:
            for answer in pure((one.SerializeToString() for one in requests), metadata=metadata, timeout=120):
                answered += len(answer)
        except grpc.RpcError as error:
            say(f"{path}: {error.code().name} {error.details()}")
        wall = time.monotonic() - started
        cpu = sum(server.cpu_times()[:2]) - used
        tries.append((cpu, wall, answered, max(peak(server.pid) - before, 0)))
        if wall > LONG_S:
            break
    return sorted(tries)[len(tries) // 2]


def peak(pid: int) -> int:
    """The most memory that a process has held since that was set back, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def filled(message: Message, field: str, items: Iterable[Message | str]) -> Message:
    """A message with as many items as a kilobyte holds."""
    values = getattr(message, field)
    for item in items:
        values.append(item)
        if message.ByteSize() > MOST_BYTES:
            del values[-1]
            break
    return message


def batch(options: R.SearchOptions, queries: list[R.Query]) -> R.SearchBatchRequest:
    """Queries that a kilobyte holds, and no more than may be answered together."""
    matches = 10 if options.aligned else max(options.mean_of, 1)
    return filled(
        R.SearchBatchRequest(options=options), "queries", queries[: max(MAX_ANSWERED // (options.k * matches), 1)]
    )


def nested(depth: int) -> common_pb2.Filter:
    """A filter within filters, each of which has to be gone through."""
    found = common_pb2.Filter(labels=["TLE"])
    for _ in range(depth):
        found = common_pb2.Filter(none_of=[common_pb2.Filter(any_of=[found])])
    return found


def streamed(message: Message, query: Message) -> list[Message]:
    """Requests of a stream that a kilobyte holds, each with its frame's 5 bytes."""
    request = type(message)()
    request.CopyFrom(message)
    request.query.CopyFrom(query)
    return [request] * max(MOST_BYTES // (request.ByteSize() + 5), 1)


def doors(videos: list[str], clips: list[str]) -> dict[str, list[Tried]]:
    """Requests that might be dear, by method: in words, as messages, and what `semiome-seen` says beside them."""
    whole, clip = R.Query(video_id=videos[0]), R.Query(clip_id=clips[0])
    far = R.SearchOptions(k=1000)
    patients = R.SearchOptions(k=1000, group_by=common_pb2.GROUP_BY_PATIENT, mean_of=1000)
    means = R.SearchOptions(k=1000, group_by=common_pb2.GROUP_BY_VIDEO, mean_of=1000)
    aligned = R.SearchOptions(k=1000, group_by=common_pb2.GROUP_BY_VIDEO, aligned=True)
    exact = R.SearchOptions(k=1000, exact=True)
    deep = R.SearchOptions(k=1000, filter=nested(1))
    options = {"k 1,000": far, "the means of patients": patients, "the means of videos": means}
    options |= {"aligned": aligned, "exact": exact, "a filter 3 deep": deep}
    batches = [
        (f"queries by video or clip, {words}", [batch(one, queries)], ())
        for words, one in options.items()
        for queries in ([R.Query(video_id=name) for name in videos], [R.Query(clip_id=name) for name in clips])
    ]
    examples = [common_pb2.Item(video_id=name) for name in videos]
    points = [common_pb2.Item(clip_id=name) for name in clips]
    behind = [f"{10**6}-0123456789abcdef/9", "x/999999999999999999"]
    return {
        f"{_V}RetrievalService/Search": [
            *(
                (f"a whole video, {words}", [R.SearchRequest(query=whole, options=one)], ())
                for words, one in options.items()
            ),
            ("1,000 hits", [R.SearchRequest(query=whole, options=R.SearchOptions(k=1000))], ()),
            ("said to be behind", [R.SearchRequest(query=clip)], [behind[0]]),
        ],
        f"{_V}RetrievalService/SearchBatch": batches,
        f"{_V}RetrievalService/SearchStream": [
            (f"questions by video, {words}", streamed(R.SearchStreamRequest(options=one), whole), ())
            for words, one in options.items()
        ],
        f"{_V}RetrievalService/Recommend": [
            (f"examples, {words}", [filled(R.RecommendRequest(options=one), "positive", examples[:100])], ())
            for words, one in options.items()
            if words in {"k 1,000", "the means of patients", "exact"}
        ],
        f"{_V}RetrievalService/SearchByVideo": [
            ("a header and no film", [R.SearchByVideoRequest(header=R.UploadHeader(size_bytes=2**30))], ()),
        ],
        f"{_V}ClassificationService/Classify": [
            ("a video", [C.ClassifyRequest(item=common_pb2.Item(video_id=videos[0]))], ()),
            ("a clip", [C.ClassifyRequest(item=common_pb2.Item(clip_id=clips[0]))], ()),
        ],
        f"{_V}ClassificationService/ClassifyBatch": [
            ("videos", [filled(C.ClassifyBatchRequest(), "items", examples)], ()),
            ("clips", [filled(C.ClassifyBatchRequest(), "items", points)], ()),
        ],
        f"{_V}ClassificationService/ClassifyStream": [
            ("videos", [filled(C.ClassifyStreamRequest(), "items", examples)], ()),
        ],
        f"{_V}CatalogService/GetVideo": [("one", [K.GetVideoRequest(video_id=videos[0])], ())],
        f"{_V}CatalogService/ListVideos": [
            ("a page of 1,000", [K.ListVideosRequest(page_size=1000)], ()),
            ("a filter 3 deep", [K.ListVideosRequest(page_size=1000, filter=nested(1))], ()),
        ],
        f"{_V}CatalogService/GetPatient": [("one", [K.GetPatientRequest(patient_id="p1")], ())],
        f"{_V}CatalogService/ListPatients": [("a page of 1,000", [K.ListPatientsRequest(page_size=1000)], ())],
        f"{_V}CatalogService/GetCounts": [("", [K.GetCountsRequest()], ())],
        f"{_V}CatalogService/GetEmbeddings": [
            ("clips", [filled(K.GetEmbeddingsRequest(), "clip_ids", clips)], ()),
        ],
        f"{_V}ReviewService/GetMap": [("a page of 10,000", [V.GetMapRequest(page_size=10_000)], ())],
        f"{_V}ReviewService/ListFeedback": [
            ("a page of 1,000", [V.ListFeedbackRequest(page_size=1000)], ()),
            ("of videos", [filled(V.ListFeedbackRequest(page_size=1000), "video_ids", videos)], ()),
        ],
        f"{_V}ReviewService/SaveFeedback": [
            (
                "a note",
                [V.SaveFeedbackRequest(feedback=V.Feedback(video_id=videos[0], label="TLE", note="x" * 900))],
                (),
            ),
        ],
        f"{_V}ReviewService/ListReports": [("", [V.ListReportsRequest()], ())],
        f"{_V}AdminService/GetStatus": [("", [A.GetStatusRequest()], ())],
        f"{_V}AdminService/ListGenerations": [("", [A.ListGenerationsRequest()], ())],
        f"{_V}AdminService/ListHeads": [("", [A.ListHeadsRequest()], ())],
        f"{_V}AdminService/ListOperations": [("", [A.ListOperationsRequest()], ())],
        "/grpc.health.v1.Health/Check": [("", [health_pb2.HealthCheckRequest()], ())],
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": [
            ("a file, many times", [_FILE] * (MOST_BYTES // (_FILE.ByteSize() + 5)), ()),
        ],
    }


if __name__ == "__main__":
    main()
