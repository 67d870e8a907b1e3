"""Numbers with their nouns, as sentences want them."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """`1 row`, `2 rows`; a noun that takes more than an s is given with its plural: `entry|entries`."""
    one, _, several = noun.partition("|")
    return f"{count} {one if count == 1 else several or one + 's'}"
