"""What the service knows at one moment: a search snapshot and a head. It answers; the servicers translate."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from encoder.head import Head, load_head
from index.errors import InvalidInput, SemiomeError, StateError
from index.query import ClipQuery, GroupBy, Query, SearchFilter, VideoQuery
from index.search import Options, search
from index.serving import Serving
from index.snapshot import Snapshot
from index.workspace import Workspace, current
from service.answers import BatchAnswer, BatchItem, ClassifyAnswer, Judged, Provenance, SearchAnswer
from service.errors import status_of, type_and_place

MAX_BATCH = 1000

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Knowledge:
    """One snapshot and one head, both immutable: a call that holds it gets one consistent answer.

    Attributes:
        snapshot: what is searched.
        head: what classifies; None where none has been trained.
    """

    snapshot: Snapshot
    head: Head | None

    @property
    def provenance(self) -> Provenance:
        """What answers are made with."""
        return Provenance(self.snapshot.encoder_id, self.snapshot.name, self.head.head_id if self.head else "")

    def search(
        self, query: Query, k: int, where: SearchFilter, group_by: GroupBy, *, include_own_patient: bool
    ) -> SearchAnswer:
        """See `index.search.search`."""
        options = Options(where, group_by, include_own_patient=include_own_patient)
        result = search(self.snapshot, query, k, options)
        return SearchAnswer(self.provenance, result.neighbours)

    def classify(self, item: ClipQuery | VideoQuery) -> ClassifyAnswer:
        """The verdict on a stored clip or video.

        Raises:
            StateError: no head is loaded, or it belongs to another encoder.
            NotFound: the id is not in this generation.
        """
        if self.head is None:
            raise StateError("no head is loaded: train one with `semiome head train`")
        clips, vectors = self.snapshot.clips_of(item)
        verdict = self.head.classify(vectors, self.snapshot.encoder_id)
        return ClassifyAnswer(self.provenance, Judged(verdict, clips))

    def classify_batch(self, items: Sequence[ClipQuery | VideoQuery | InvalidInput]) -> BatchAnswer:
        """Verdicts on many; one that fails carries its status and spoils no other.

        Args:
            items: 1 to 1,000; an item that could not be understood stands there as its error.

        Raises:
            InvalidInput: too many, or none.
        """
        if not 1 <= len(items) <= MAX_BATCH:
            raise InvalidInput(f"expected 1 to {MAX_BATCH} items, got {len(items)}")
        return BatchAnswer(self.provenance, tuple(map(self._batch_item, items)))

    def _batch_item(self, item: ClipQuery | VideoQuery | InvalidInput) -> BatchItem:
        try:
            if isinstance(item, InvalidInput):
                raise item
            return BatchItem("OK", "", self.classify(item).judged)
        except SemiomeError as error:
            code = status_of(error)
            if code is None:
                raise
            return BatchItem(code.name, str(error), None)


class Source:
    """Keeps the newest knowledge of a workspace; callers take `knowledge` once and hold it to the end of their call."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._serving = Serving(workspace)
        self._complaint = ""
        self.knowledge = Knowledge(self._serving.snapshot, self._load_head(None))

    def refresh(self) -> None:
        """Take up a new generation, new labels or a new head; what can't be taken up is logged, and the old serves."""
        try:
            self._serving.refresh()
            head = self._load_head(self.knowledge.head)
            old, encoder_id = self.knowledge.head, self._serving.snapshot.encoder_id
            if head is not old and _fits(old, encoder_id) and not _fits(head, encoder_id):
                head = old  # trained before the index changes to its encoder: nobody goes without verdicts meanwhile
        except SemiomeError as error:
            self._complain(str(error))
            return
        except Exception as error:  # noqa: BLE001  a torn file may raise anything, and the server must outlive it
            self._complain(f"looking for a newer one failed with {type_and_place(error)}")
            return
        self._complaint = ""
        if self._serving.snapshot is not self.knowledge.snapshot or head is not self.knowledge.head:
            self.knowledge = Knowledge(self._serving.snapshot, head)
            _logger.info("serving %s", self.knowledge.provenance)

    def _complain(self, what: str) -> None:
        if what != self._complaint:  # once, not every second
            self._complaint = what
            _logger.warning("still serving generation %s: %s", self.knowledge.snapshot.name, what)

    def _load_head(self, loaded: Head | None) -> Head | None:
        name = current(self._workspace.heads)
        if name is None:
            return None
        return loaded if loaded is not None and loaded.head_id == name else load_head(self._workspace.heads, name)


def _fits(head: Head | None, encoder_id: str) -> bool:
    return head is not None and head.card.encoder_id == encoder_id
