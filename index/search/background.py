"""How often a stretch as similar turns up in recordings in which nothing happens: what a similarity is worth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from index.moment_records import BackgroundRate
from index.query import SearchFilter
from index.records import BACKGROUND
from index.search.snapshot import Snapshot
from index.search.subsequence import apart, endings

_SURE = 0.95
_SAME = 1e-6
"""Similarities that differ by less may be of one stretch."""


@dataclass(slots=True)
class _Found:
    """What background of one patient has.

    Attributes:
        similarities: of its stretches that do not overlap by more than half, those that are similar enough to matter.
        seconds: of clips that a stretch may end with.
    """

    similarities: list[float] = field(default_factory=list)
    seconds: float = 0.0


class Background:
    """How similar the background of each patient is to a query.

    Args:
        snapshot: what is searched; videos with the metadata `background=yes` are its background.
        asked_QK: the query's clips, whitened as the snapshot's rows are.
        own: rows of the query's video.
        least: similarity below which nothing needs to be counted.
        in_time: called from time to time, to raise what ends the work.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        asked_QK: NDArray[np.float32],
        own: NDArray[np.int64],
        least: float,
        in_time: Callable[[], None] = lambda: None,
    ) -> None:
        self._of_patient: dict[str, _Found] = defaultdict(_Found)
        quiet = snapshot.row_set(SearchFilter(metadata=frozenset({BACKGROUND})), without=own)
        if not quiet.total:
            return
        for ends in endings(snapshot, asked_QK, quiet, in_time):
            patients, similarity = snapshot.patient_of_row[ends.rows], ends.similarity
            # Of clips that overlap each stands for the seconds that the one before does not show.
            new = ends.ends_s - np.maximum(ends.begins_s, np.append(-np.inf, ends.ends_s[:-1]))
            for patient in np.unique(patients[similarity > -np.inf]).tolist():
                theirs = (patients == patient) & (similarity > -np.inf)
                found = self._of_patient[snapshot.patient_ids[patient]]
                found.seconds += float(new[theirs].sum())
                alike = np.where(theirs & (similarity >= least - _SAME), similarity, -np.inf)
                found.similarities += (one.similarity for one in apart(ends._replace(similarity=alike), len(ends.rows)))

    def rate(self, patients: Iterable[str], similarity: float) -> BackgroundRate | None:
        """How often some patients' background has a stretch as similar; None where it has no room for one."""
        theirs = [self._of_patient[patient] for patient in patients if patient in self._of_patient]
        hours = sum(one.seconds for one in theirs) / 3600
        if not hours:
            return None
        count = sum(value >= similarity - _SAME for one in theirs for value in one.similarities)
        low, high = _poisson_interval(count)
        return BackgroundRate(count / hours, low / hours, high / hours, hours)

    def patients(self) -> set[str]:
        """Those with background."""
        return set(self._of_patient)


def _poisson_interval(count: int) -> tuple[float, float]:
    """Between what the expected number lies where so many were counted (Garwood, 1936)."""
    from scipy.special import gammaincinv  # a server starts without it

    rest = (1 - _SURE) / 2
    low = float(gammaincinv(count, rest)) if count else 0.0
    return low, float(gammaincinv(count + 1, 1 - rest))
