"""What the service answers, as plain records; the same on both ends of the wire."""

from __future__ import annotations

from dataclasses import dataclass

from index.records import Clip, Neighbour, Verdict


@dataclass(frozen=True, slots=True)
class Provenance:
    """What an answer was made with; `head_id` is empty when no head is loaded."""

    encoder_id: str
    generation: str
    head_id: str


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """Hits, best first."""

    provenance: Provenance
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict, and the clips it was given on, one for each of the verdict's own."""

    verdict: Verdict
    clips: tuple[Clip, ...]


@dataclass(frozen=True, slots=True)
class ClassifyAnswer:
    """The verdict on one item."""

    provenance: Provenance
    judged: Judged


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One item of a batch: judged, or failed with a status.

    Attributes:
        code: gRPC status name, `OK` when judged.
        message: what was wrong, empty when judged.
        judged: None when it failed.
    """

    code: str
    message: str
    judged: Judged | None


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """The results of a batch, in the order of its items."""

    provenance: Provenance
    results: tuple[BatchItem, ...]
