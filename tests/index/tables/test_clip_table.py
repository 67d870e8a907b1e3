"""Clips by row and rows by clip."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from index.records import Clip
from index.tables.clip_table import ClipTable

HEX = st.text("0123456789abcdef", min_size=4, max_size=4)
ANY = st.text(min_size=0, max_size=6)
STORED = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=6)
"""An id that a store may hold has no such letter; one that is asked for may."""


def table_of(ids):
    return ClipTable.of([Clip(name, "v", "p", number, 0.0, 10.0) for number, name in enumerate(ids)])


@given(st.lists(HEX, unique=True, max_size=40) | st.lists(STORED, unique=True, max_size=20), st.lists(HEX | ANY))
def test_rows_are_found_by_id(ids, others):
    table = table_of(ids)
    asked = [*ids, *others, "", *(f"{name}\0" for name in ids)]
    expected = [ids.index(name) if name in ids else -1 for name in asked]

    assert table.rows_of(asked).tolist() == expected
    assert [-1 if row is None else row for row in map(table.row_of, asked)] == expected


def test_rows_are_found_in_a_slice_of_longer_columns():
    """Arrow's buffers begin before a slice does."""
    whole = pa.array([f"{n:032x}" for n in range(20)])
    columns = {
        "clip_id": whole[7:],
        "video_id": pa.array(["v"] * 13),
        "patient_id": pa.array(["p"] * 13),
        "clip_index": pa.array(range(13), pa.int32()),
        "start_s": pa.array(np.zeros(13)),
        "valid_seconds": pa.array(np.zeros(13)),
    }
    table = ClipTable.of_columns(pa.table(columns))

    assert table.rows_of([f"{n:032x}" for n in (7, 19, 6, 8)]).tolist() == [0, 12, -1, 1]


def test_one_long_id_among_many_costs_no_memory():
    import tracemalloc

    table = ClipTable.of([Clip(f"{n:032x}", "v", "p", n, 10.0 * n, 10.0) for n in range(40)])
    asked = [*(f"{n:032x}" for n in range(30)), "x" * 3_000_000]
    tracemalloc.start()
    found = table.rows_of(asked)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert found.tolist() == [*range(30), -1]
    assert peak < 20_000_000
