"""Hits of plain searches as bytes of their messages, without an object for each.

What a hit says of its clip is the same in every answer of a snapshot, so those bytes are made once. By protobuf's rules
a message is the concatenation of its fields, whole messages among them, so an answer is put together from such pieces;
a test holds it to what protobuf itself writes. It takes a tenth of the time, which is most of what a search cost
beside gRPC and FAISS (docs/performance.md).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from index.records import Provenance
from index.search.snapshot import Snapshot
from protos import common_pb2 as common
from protos import retrieval_pb2 as retrieval
from service.messages import convert

_LENGTH_DELIMITED, _FLOAT = 2, 5
_MAX_REMEMBERED = 200_000


def _tag(message: type[Message], name: str, wire_type: int) -> int:
    """A field's tag; all used here have numbers below 16, so that it is one byte."""
    number: int = message.DESCRIPTOR.fields_by_name[name].number
    return number << 3 | wire_type


_HIT = _tag(retrieval.SearchResponse, "hits", _LENGTH_DELIMITED)
_RESULT = _tag(retrieval.SearchBatchResponse, "results", _LENGTH_DELIMITED)
_WENT_WELL = bytes((_tag(retrieval.SearchBatchResult, "status", _LENGTH_DELIMITED), 0))
"""A status of nothing but defaults, which is OK."""
_QUERY_CLIP_ID = _tag(common.Hit, "query_clip_id", _LENGTH_DELIMITED)
_SIMILARITY = struct.Struct("<Bf")
_SIMILARITY_TAG = _tag(common.Hit, "similarity", _FLOAT)


class HitBytes:
    """Bytes of the hits of one snapshot. Threads may share it."""

    def __init__(self, snapshot: Snapshot, provenance: Provenance) -> None:
        self._snapshot = snapshot
        self._head = retrieval.SearchResponse(provenance=convert.provenance_to_proto(provenance)).SerializeToString()
        self._of_row: dict[int, bytes] = {}

    def response(self, rows: NDArray[np.int64], similarities: Sequence[float], query_clip_id: str) -> bytes:
        """A `SearchResponse`.

        Args:
            rows: of the hits, best first.
            similarities: one for each row.
            query_clip_id: the clip that was asked about, or empty.
        """
        return self._head + self._hits(rows, similarities, query_clip_id)

    def batch_response(self, results: Iterable[tuple[NDArray[np.int64], Sequence[float], str]]) -> bytes:
        """A `SearchBatchResponse` of searches that all went well, each as `response` takes one."""
        parts = [self._head]
        for rows, similarities, query_clip_id in results:
            result = _WENT_WELL + self._hits(rows, similarities, query_clip_id)
            parts += (bytes((_RESULT,)), _varint(len(result)), result)
        return b"".join(parts)

    def _hits(self, rows: NDArray[np.int64], similarities: Sequence[float], query_clip_id: str) -> bytes:
        """Field `hits`, which has the same number in both."""
        asked = query_clip_id.encode()
        end = bytes((_QUERY_CLIP_ID,)) + _varint(len(asked)) + asked if asked else b""
        parts: list[bytes] = []
        known = self._of_row
        for row, similarity in zip(rows.tolist(), similarities, strict=True):
            clip = known.get(row) or self._clip(row)
            said = _SIMILARITY.pack(_SIMILARITY_TAG, similarity)
            parts += (_prefix(len(clip) + len(said) + len(end)), clip, said, end)
        return b"".join(parts)

    def _clip(self, row: int) -> bytes:
        clip = self._snapshot.clip(row)
        message = common.Hit(clip=convert.clip_to_proto(clip), label=self._snapshot.label_of(clip))
        if len(self._of_row) >= _MAX_REMEMBERED:
            self._of_row.clear()
        data = self._of_row[row] = message.SerializeToString()
        return data


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)


_PREFIXES: list[bytes] = [bytes((_HIT,)) + _varint(size) for size in range(1024)]


def _prefix(size: int) -> bytes:
    return _PREFIXES[size] if size < len(_PREFIXES) else bytes((_HIT,)) + _varint(size)
