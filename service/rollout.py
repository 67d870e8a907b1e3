"""A new generation brought to running servers: the same questions before and after, and back where answers differ."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from index.errors import ServiceError, StateError
from index.query import ClipQuery
from service.client import Client

_POLL_S = 0.2
_K = 10


@dataclass(frozen=True, slots=True)
class Rollout:
    """How a generation was taken up.

    Attributes:
        workers: processes that serve it, of all servers.
        seconds: seconds until all did.
        overlap: average share of the canary queries' hits that are the same as before; None where nothing served
            before.
    """

    workers: int
    seconds: float
    overlap: float | None


def ask_canaries(clients: Sequence[Client], clip_ids: Sequence[str]) -> list[list[frozenset[str] | None]]:
    """For each server, the hits of each canary query; None for one that the server does not know yet.

    Raises:
        ServiceError: If a server does not answer.
    """
    queries = [ClipQuery(clip_id) for clip_id in clip_ids]
    return [
        [
            frozenset(hit.clip.clip_id for hit in one.neighbours) if one.code == "OK" else None
            for one in client.search_batch(queries, _K).results
        ]
        for client in clients
    ]


def roll_out(
    clients: Sequence[Client],
    generation: str,
    clip_ids: Sequence[str],
    publish: Callable[[], None],
    take_back: Callable[[], None],
    *,
    least_overlap: float,
    timeout_s: float,
) -> Rollout:
    """Publish a generation, wait until every worker of every server serves it, and ask again what was asked before.

    Args:
        clients: one for each server, of a caller who may ask for its status.
        generation: the new index.
        clip_ids: clips to search by.
        publish: lets it serve.
        take_back: lets serve again what served before.
        least_overlap: of the hits before and after, 0 to 1.
        timeout_s: how long servers may take.

    Raises:
        ServiceError: If a server does not answer, before anything was published.
        StateError: If servers did not switch to it in time, or answer differently with it; the previous one serves
            again.
    """
    before = ask_canaries(clients, clip_ids)
    encoders = {client.status().provenance.encoder_id for client in clients}
    publish()
    started = time.monotonic()
    try:
        workers = _wait(clients, generation, started + timeout_s)
        seconds = time.monotonic() - started
        after = ask_canaries(clients, clip_ids)
        same_encoder = encoders == {client.status().provenance.encoder_id for client in clients}
    except (ServiceError, StateError) as error:
        take_back()
        raise StateError(f"generation {generation} was taken back: {error}") from None
    overlap = _overlap(before, after)
    if same_encoder and overlap is not None and overlap < least_overlap:
        take_back()
        raise StateError(
            f"generation {generation} was taken back: only {overlap:.1%} of the canaries' hits are those of before, "
            f"expected at least {least_overlap:.1%}; look at `semiome index verify` and at what was stored meanwhile"
        )
    return Rollout(workers, seconds, overlap)


def _wait(clients: Sequence[Client], generation: str, until: float) -> int:
    """How many workers serve the generation, once all do."""
    while True:
        workers = [worker for client in clients for worker in client.status().workers]
        serving = [worker for worker in workers if worker.provenance.generation == generation]
        if workers and len(serving) == len(workers):
            return len(workers)
        if time.monotonic() > until:
            raise StateError(f"{len(serving)} of {len(workers)} workers serve it in time")
        time.sleep(_POLL_S)


def _overlap(
    before: Sequence[Sequence[frozenset[str] | None]], after: Sequence[Sequence[frozenset[str] | None]]
) -> float | None:
    shares = [
        len(old & new) / len(old)
        for olds, news in zip(before, after, strict=True)
        for old, new in zip(olds, news, strict=True)
        if old and new is not None
    ]
    return sum(shares) / len(shares) if shares else None
