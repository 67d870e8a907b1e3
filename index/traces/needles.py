"""Bytes that only the patient's rows hold: their random key, their clips' ids, and the beginnings of their vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from index.tables.rows import batches, select
from index.tables.schema import id_predicate, vectors_of
from index.tables.store import Store

_SCANNED_ROWS = 16
"""Number of the patient's clips and vectors to look for; those of one file go or stay together."""
_SCANNED_VALUES = 16
_LEAST_VARIETY = 8
"""Bytes of fewer kinds than this stand in any file, as zeros do."""


def needles_of(store: Store, patient_key: str) -> list[bytes]:
    """What must be nowhere once a patient is erased."""
    needles = [patient_key.encode()]
    for encoder_id in store.encoder_ids():
        table = store.clip_table(encoder_id)
        rows = select(table, ["clip_id", "vector"], id_predicate("patient_key", [patient_key]))
        step = max(rows.num_rows // _SCANNED_ROWS, 1)
        needles += [clip_id.encode() for clip_id in rows.column("clip_id").to_pylist()[::step]]
        if rows.num_rows:
            needles += [vector[:_SCANNED_VALUES].tobytes() for vector in vectors_of(rows)[::step]]
    return needles


def without_shared(store: Store, needles: Sequence[bytes]) -> list[bytes]:
    """Those needles that no row which stays holds too: two patients before a black picture have equal vectors.

    Args:
        store: as it is without the patient.
        needles: the patient's byte patterns.
    """
    shared = {needle for needle in needles if len(set(needle)) < _LEAST_VARIETY}
    for encoder_id in store.encoder_ids():
        table = store.clip_table(encoder_id)
        width = min(_SCANNED_VALUES, table.schema.field("vector").type.list_size)
        wanted = {needle for needle in needles if len(needle) == 4 * width}
        if not wanted:
            continue
        for batch in batches(table, ["vector"]):
            beginnings = np.ascontiguousarray(vectors_of(batch)[:, :width]).tobytes()
            shared |= wanted & {beginnings[at : at + 4 * width] for at in range(0, len(beginnings), 4 * width)}
    return [needle for needle in dict.fromkeys(needles) if needle not in shared]
