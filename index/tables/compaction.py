"""Keeping LanceDB's tables small: many commits leave many files, and every old version keeps its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from index.tables.store import Store

KEEP_VERSIONS = timedelta(hours=1)
"""Time for which old versions stay, so that their readers can finish."""

_SMALL_ROWS = 100_000
"""A file of fewer rows is a small one, as LanceDB counts them."""


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What a table is made of.

    Attributes:
        name: the table's.
        rows: number of rows.
        fragments: files of rows.
        small_fragments: those that a compaction would merge.
        versions: number of versions kept.
        size_bytes: size of its folder.
    """

    name: str
    rows: int
    fragments: int
    small_fragments: int
    versions: int
    size_bytes: int


def table_facts(store: Store, name: str) -> TableFacts:
    """Facts on a table of a store."""
    table = store.open_table(name)
    fragments = table.stats.dataset_stats(_SMALL_ROWS)
    return TableFacts(
        name=name,
        rows=table.count_rows(),
        fragments=fragments["num_fragments"],
        small_fragments=fragments["num_small_files"],
        versions=len(table.versions()),
        size_bytes=sum(store.sizes(name).values()),
    )


def compact(
    store: Store,
    still_mine: Callable[[], None],
    *,
    keep_versions: timedelta = KEEP_VERSIONS,
    deletions: bool = False,
) -> None:
    """Merge small files and remove old versions; the caller holds `Store.writing`.

    Args:
        store: the store.
        still_mine: what `Store.writing` gave.
        keep_versions: younger ones stay.
        deletions: rewrite every file that a row was deleted from, so that its bytes go. LanceDB by itself leaves a
            file as it is until a tenth of its rows is deleted.
    """
    for name in store.table_names():
        # LanceDB's own `optimize` knows neither the threshold nor which of the two comes first.
        still_mine()
        with store.reached():
            _compact(store, name, still_mine, keep_versions, deletions=deletions)
    store.settle()


def _compact(
    store: Store, name: str, still_mine: Callable[[], None], keep_versions: timedelta, *, deletions: bool
) -> None:
    dataset = store.open_table(name)
    dataset.optimize.compact_files(**({"materialize_deletions_threshold": 0.0} if deletions else {}))
    if deletions:
        # Where nothing was left to merge, the newest version is still the deletion, with its predicate.
        store.open_table(name).update_config({"semiome.compacted_at_version": str(dataset.version)})
    # What no other process can be writing, since the caller holds the lock, needs no days of grace. On object storage
    # the lock may be lost unseen: there only an erasure takes files that no version names.
    alone = deletions or not store.remote
    still_mine()
    store.open_table(name).cleanup_old_versions(keep_versions, delete_unverified=alone)
