"""What a server answers from at one moment: a search snapshot and a head. It answers; the servicers translate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from encoder.head import Head, probabilities_of, vote
from encoder.signs import SignHeads
from index.errors import EncoderMismatch, InvalidInput, NotFound, SemiomeError, StateError
from index.phases import apart, seizure_clips
from index.query import PLAIN, AllOf, AnyOf, ClipQuery, Options, Query, SearchFilter, VideoQuery
from index.records import Clip, Provenance, SearchAnswer
from index.search.novelty import novelty, usual_distances
from index.search.search import search
from index.search.snapshot import Snapshot
from index.tables.blocklist import patient_hash
from service.errors import status_of
from service.messages.hit_bytes import HitBytes
from service.records import (
    BatchAnswer,
    BatchItem,
    ClassifyAnswer,
    Evidence,
    Judged,
    SearchBatchAnswer,
    SearchResultItem,
    SignsAnswer,
)
from service.serving import evidence
from service.serving.signs import SignTracks

MAX_BATCH = 1000
MAX_ANSWERED = 100_000
"""Hits and matches of a batch: some 25 MB."""
_ALIGNED_MATCHES = 10
"""A query's clips, each of which has a match in an aligned hit: of a minute's seizure six."""

Item = ClipQuery | VideoQuery


@dataclass(frozen=True)
class ServingState:
    """One snapshot and one head, both immutable: a call that holds it gets one consistent answer.

    Attributes:
        snapshot: what is searched.
        head: what classifies; None where none has been trained.
        key: the workspace's, by which a head names whom it learned from; empty where that is not asked.
        encoder_kind: see `encoder.model.kind`.
        signs: what tells signs; None where nothing has been trained, or nothing that can be read.
        signs_damaged: the sign heads in use can't be read.
    """

    snapshot: Snapshot
    head: Head | None
    key: bytes = b""
    encoder_kind: str = ""
    signs: SignHeads | None = None
    signs_damaged: bool = False

    @cached_property
    def provenance(self) -> Provenance:
        """What answers are made with."""
        head_id = self.head.head_id if self.head else ""
        snapshot = self.snapshot
        return Provenance(snapshot.encoder_id, snapshot.name, head_id, snapshot.table_version, self.encoder_kind)

    @cached_property
    def hit_bytes(self) -> HitBytes:
        """What answers to plain searches are put together from."""
        return HitBytes(self.snapshot, self.provenance)

    @cached_property
    def usual(self) -> NDArray[np.float64]:
        """Distances of `index.search.novelty.usual_distances`; measured when it is first asked for."""
        return usual_distances(self.snapshot)

    def summary(self) -> dict[str, str | int]:
        """What is served, in a few words for the person who started the server."""
        made = self.provenance
        clips = self.snapshot.generation.manifest.clips
        return {"encoder_id": made.encoder_id, "generation": made.generation, "head_id": made.head_id, "clips": clips}

    @property
    def index_age_s(self) -> float:
        """Seconds since the index was built."""
        built = datetime.fromisoformat(self.snapshot.generation.manifest.built_at)
        return (datetime.now(UTC) - built).total_seconds()

    def search(self, query: Query, k: int, options: Options = PLAIN) -> SearchAnswer:
        """Search the snapshot, see `index.search.search.search`."""
        return self.answer(search(self.snapshot, query, k, options))

    def answer(self, found: SearchAnswer) -> SearchAnswer:
        """What was found, as this service answers it: with the head that is loaded."""
        return replace(found, provenance=self.provenance)

    def with_signs(self, options: Options) -> Options:
        """Options with the course of signs that they ask for as a filter of videos.

        Raises:
            StateError: If no sign heads are loaded.
            EncoderMismatch: If they belong to another encoder.
            InvalidInput: If the signs can't be read, or name one that is not judged.
        """
        if not options.signs:
            return options
        showing = SearchFilter(video_ids=self._tracks.videos_with(options.signs))
        where = AllOf((options.where, showing)) if showing.video_ids else AnyOf(())
        return replace(options, where=where, signs="")

    def signs_of(self, video_id: str) -> SignsAnswer:
        """The signs of a stored video over time.

        Raises:
            StateError: If no sign heads are loaded.
            EncoderMismatch: If they belong to another encoder.
            NotFound: If the video is not stored.
        """
        tracks = self._tracks
        clips, found = tracks.of_video(video_id)
        return SignsAnswer(self.provenance, tracks.heads.signs_id, clips, found, tracks.heads.card.not_judged)

    @property
    def judged_signs(self) -> tuple[str, ...]:
        """Signs that are judged; none where no sign heads of the encoder that serves are loaded."""
        fits = self.signs is not None and self.signs.card.encoder_id == self.snapshot.encoder_id
        return self.signs.card.names if fits and self.signs is not None else ()

    @property
    def _tracks(self) -> SignTracks:
        if self.signs is None and self.signs_damaged:
            raise StateError("the sign heads of this workspace can't be read: `semiome doctor` says more")
        if self.signs is None:
            raise StateError("no sign heads are loaded: train them with `semiome signs train`")
        if self.signs.card.encoder_id != self.snapshot.encoder_id:
            of_signs = f"sign heads {self.signs.signs_id}"
            raise EncoderMismatch(of_signs, self.signs.card.encoder_id, self.snapshot.encoder_id)
        return self._tracks_kept

    @cached_property
    def _tracks_kept(self) -> SignTracks:
        assert self.signs is not None  # noqa: S101  `_tracks` has looked
        return SignTracks(self.signs, self.snapshot)

    def batch_answer(self, results: Sequence[SearchAnswer | SemiomeError]) -> SearchBatchAnswer:
        """Many searches in one answer; one that failed carries its status."""
        return SearchBatchAnswer(self.provenance, tuple(map(_search_result, results)))

    def classify(self, item: Item) -> ClassifyAnswer:
        """The verdict on a stored clip or video, with all evidence.

        Raises:
            StateError: If no head is loaded, or it belongs to another encoder.
            NotFound: If the id is not stored.
        """
        nearest = evidence.nearest_of_each_class(self.snapshot, item)
        return ClassifyAnswer(self.provenance, self.judge(*self.snapshot.clips_of(item), item=item, neighbours=nearest))

    @property
    def can_judge(self) -> bool:
        """Whether a head is loaded that fits what is searched."""
        if self.head is None:
            return False
        try:
            evidence.check_fits(self.head, self.snapshot)
        except SemiomeError:
            return False
        return True

    def learned_from(self, patient_id: str) -> bool | None:
        """Whether the head learned from this patient; None where neither card nor caller says."""
        known = None if self.head is None else self.head.card.training_patients
        if known is None or not self.key or not patient_id:
            return None
        return patient_hash(self.key, patient_id) in known

    def judge(
        self,
        clips: tuple[Clip, ...],
        vectors_ND: NDArray[np.float32],
        patient_id: str | None = None,
        *,
        item: Item | None = None,
        neighbours: evidence.OfEachClass = (),
        with_distance: bool = True,
    ) -> Judged:
        """The verdict on clips of one video, stored or not, with its evidence.

        Args:
            clips: clips of one video.
            vectors_ND: their embeddings.
            patient_id: whose they are where the clips do not say; empty if that is not known.
            item: what is stored and they are of; None where they are not stored.
            neighbours: see `Evidence`.
            with_distance: whether to say how unlike all stored clips they are, too.

        Raises:
            StateError: If no head is loaded, or it does not fit what is searched.
        """
        patient_id = clips[0].patient_id if patient_id is None else patient_id
        head, inside = self._head(), self._of_seizure(item, clips)
        evidence.check_fits(head, self.snapshot)
        counted = [inside[place] for place in apart([clips[place] for place in inside])]
        voters, vectors_ND = tuple(clips[place] for place in counted), vectors_ND[counted]
        return evidence.judge(
            head,
            voters,
            vectors_ND,
            learned_from=self.learned_from(patient_id),
            neighbours=neighbours,
            distance=novelty(self.snapshot, vectors_ND, patient_id, self.usual) if with_distance else None,
            clips_without_picture=self._without_picture(item, len(clips)),
            clips_outside_seizure=len(clips) - len(inside),
            clips_overlapping=len(inside) - len(counted),
        )

    def classify_batch(self, items: Sequence[Item | InvalidInput], *, summaries: bool = False) -> BatchAnswer:
        """Verdicts on many; one that fails carries its status and spoils no other.

        Args:
            items: 1 to 1,000; an item that could not be understood stands there as its error.
            summaries: without clips, and so with less work.

        Raises:
            InvalidInput: If there are too many, or none.
        """
        check_size(len(items), "items")
        if summaries and self.head is not None:
            return BatchAnswer(self.provenance, self._summaries(items))
        return BatchAnswer(self.provenance, tuple(map(self._batch_item, items)))

    def patients_of(self, items: Sequence[Item | InvalidInput]) -> set[str]:
        """Whose these are, as far as they are stored."""
        clips = [item.clip_id for item in items if isinstance(item, ClipQuery)]
        rows = self.snapshot.rows_in_index(clips)
        numbers = np.unique(self.snapshot.patient_of_row[rows[rows >= 0]]).tolist()
        patients = {self.snapshot.patient_ids[number] for number in numbers}
        for item in items:
            if isinstance(item, VideoQuery) and (video := self.snapshot.videos.get(item.video_id)):
                patients.add(video.patient_id)
        for place in np.flatnonzero(rows < 0).tolist():
            try:  # stored since the index was built
                patients.add(self.snapshot.clips_of(ClipQuery(clips[place]))[0][0].patient_id)
            except NotFound:
                continue
        return patients

    @cached_property
    def _learned(self) -> list[bool | None]:
        """Whether the head learned from each patient of the snapshot, by number."""
        return list(map(self.learned_from, self.snapshot.patient_ids))

    def _without_picture(self, item: Item | None, clips: int) -> int:
        """How many clips of a stored video have no vote, since they show no picture."""
        video = self.snapshot.videos.get(item.video_id) if isinstance(item, VideoQuery) else None
        return 0 if video is None else max(video.clip_count - clips, 0)

    def _of_seizure(self, item: Item | None, clips: Sequence[Clip]) -> list[int]:
        """Which clips may have a vote: of a stored video those in its seizure, where that is known."""
        video = self.snapshot.videos.get(item.video_id) if isinstance(item, VideoQuery) else None
        return seizure_clips(video, clips, self._head().card.from_onset_s)

    def _head(self) -> Head:
        if self.head is None:
            raise StateError("no head is loaded: train one with `semiome head train`")
        return self.head

    def _batch_item(self, item: Item | InvalidInput) -> BatchItem:
        try:
            if isinstance(item, InvalidInput):
                raise item
            clips, vectors = self.snapshot.clips_of(item)
            return BatchItem("OK", "", self.judge(clips, vectors, item=item, with_distance=False))
        except SemiomeError as error:
            return BatchItem(_code(error), str(error), None)

    def _summaries(self, items: Sequence[Item | InvalidInput]) -> tuple[BatchItem, ...]:
        """Clips in one pass of the head; what is no stored clip one by one."""
        head = self._head()
        evidence.check_fits(head, self.snapshot)
        results: list[BatchItem | None] = [None] * len(items)
        numbers = [number for number, item in enumerate(items) if isinstance(item, ClipQuery)]
        rows = self.snapshot.rows_in_index([items[number].clip_id for number in numbers])  # type: ignore[union-attr]
        there = np.flatnonzero(rows >= 0)
        if len(there):
            logits = head.logits(self.snapshot.vectors(rows[there]))
            calibrated, raw = probabilities_of(logits, head.card.temperature), probabilities_of(logits, 1.0)
            patients = self.snapshot.patient_of_row[rows[there]].tolist()
            for place, patient, sure, own in zip(there.tolist(), patients, calibrated, raw, strict=True):
                learned = self._learned[patient]
                results[numbers[place]] = _clip_summary(head, own if learned else sure, learned_from=learned)
        return tuple(result or _summary(self._batch_item(item)) for result, item in zip(results, items, strict=True))


def _clip_summary(head: Head, probabilities: NDArray[np.float64], *, learned_from: bool | None) -> BatchItem:
    verdict = replace(vote(probabilities[None], head.card.class_names), clips=())
    sets = None if learned_from else evidence.prediction_set(head, verdict)
    temperature = 1.0 if learned_from else head.card.temperature
    said = evidence.standing(head, learned_from=learned_from)
    return BatchItem("OK", "", Judged(verdict, (), Evidence(temperature, prediction_set=sets, **said)))


def _summary(item: BatchItem) -> BatchItem:
    if item.judged is None:
        return item
    short = replace(item.judged.evidence, logits=(), flipping_clip_ids=(), fewest_flipping_clips=0)
    return replace(item, judged=Judged(replace(item.judged.verdict, clips=()), (), short))


def _search_result(result: SearchAnswer | SemiomeError) -> SearchResultItem:
    if isinstance(result, SemiomeError):
        return SearchResultItem(_code(result), str(result), ())
    return SearchResultItem("OK", "", result.neighbours)


def _code(error: SemiomeError) -> str:
    code = status_of(error)
    if code is None:
        raise error
    return code.name


def check_size(count: int, what: str, most: int = MAX_BATCH) -> None:
    """Refuse more than a message may ask for at once, or nothing.

    Raises:
        InvalidInput: If it does.
    """
    if not 1 <= count <= most:
        raise InvalidInput(f"expected 1 to {most} {what}, got {count}", field=what)


def check_answered(queries: int, k: int, options: Options) -> None:
    """Refuse a batch whose answer would hold the server up, and fill its memory, for all others.

    Raises:
        InvalidInput: If all its hits, and the matches that come with them, may be too many.
    """
    matches = _ALIGNED_MATCHES if options.aligned else options.mean_of
    if queries > 1 and queries * k * matches > MAX_ANSWERED:
        raise InvalidInput(
            f"expected at most {MAX_ANSWERED} hits and matches for all queries of a batch, "
            f"got {queries * k * matches}: ask fewer queries at once, or for fewer hits",
            field="options.k",
        )
