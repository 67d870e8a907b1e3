"""Whether a file ends where its container says it does: a demuxer takes the end of a file for the end of the film.

Each container is followed from element to element by the sizes it declares, without reading what is in them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_TOP = {_CLUSTER, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367}
"""Elements that stand in a segment, and so end a cluster of unknown size."""
_LARGEST_PADDING = 1 << 20
_BOXES = frozenset(
    {
        *(b"ftyp", b"moov", b"mdat", b"moof", b"mfra", b"free", b"skip", b"wide", b"pnot", b"uuid", b"styp", b"sidx"),
        *(b"udta", b"meta", b"emsg", b"ssix", b"prft", b"pdin", b"PICT"),
    }
)
"""Boxes that stand in a file itself."""
_TAGS = {8, 9, 18}
_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_HEADER_BYTES = 1 << 16


class _Cut(Exception):
    """An element reaches beyond the end of the file."""


class _Several(Exception):
    """A second recording begins behind the first one; a demuxer would read that alone."""


def cut_short(path: Path, demuxer: str) -> str:
    """Why a file is shorter than its container says, or empty; containers that end anywhere are never cut.

    Args:
        path: the video file.
        demuxer: its container's demuxer.
    """
    follow = _FOLLOWED.get(demuxer)
    if follow is None:
        return ""
    size = path.stat().st_size
    with path.open("rb") as stream:
        try:
            follow(stream, size)
        except _Cut:
            return "cut file: its last part is not whole"
        except _Several:
            return "several recordings in one file, one behind the other: cut it into its parts"
    return ""


def _boxes(stream: BinaryIO, size: int) -> None:
    """MP4 and MOV: size and name of each box (ISO/IEC 14496-12, 4.2)."""
    at, headers = 0, 0
    while at + 8 <= size:
        stream.seek(at)
        header = stream.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 0:  # to the end of the file; or padding
            return
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8 or header[4:8] not in _BOXES:
            return  # what a recorder may have added behind the last box
        if at + length > size:
            raise _Cut
        headers += header[4:8] == b"moov"
        if headers > 1:
            raise _Several
        at += length


def _elements(stream: BinaryIO, size: int) -> None:
    """Matroska and WebM: id and size of each element (RFC 8794); a live one does not know those of the outer ones."""
    at = 0
    while at < size:
        stream.seek(at)
        header = stream.read(12)
        if not header.strip(b"\0") and size - at < _LARGEST_PADDING:
            return
        element, id_length = _number(header, marked=True)
        length, size_length = _number(header[id_length:], marked=False)
        if not id_length or not size_length:
            raise _Cut
        inside = at + id_length + size_length
        unknown = length == (1 << (7 * size_length)) - 1
        if element in {_SEGMENT, _CLUSTER} and (unknown or element == _SEGMENT):
            if not unknown and inside + length > size:
                raise _Cut
            if not unknown:
                stream.seek(inside + length)
                if stream.read(4) == _EBML.to_bytes(4, "big"):
                    raise _Several
                size = inside + length  # what a recorder may have added behind it is no element
            at = inside
            continue
        if element == _EBML and at:
            raise _Several
        if unknown or inside + length > size:
            raise _Cut
        at = inside + length


def _number(data: bytes, *, marked: bool) -> tuple[int, int]:
    """A number of variable length and how many bytes it takes; 0 and 0 where there is none."""
    if not data or not data[0]:
        return 0, 0
    length = 9 - data[0].bit_length()
    if length > len(data) or (marked and length > 4):
        return 0, 0
    value = int.from_bytes(data[:length], "big")
    return (value if marked else value & ((1 << (7 * length)) - 1)), length


def _riffs(stream: BinaryIO, size: int) -> None:
    """AVI: one RIFF, or several of OpenDML; a live one may say 0 bytes."""
    at = 0
    while at + 8 <= size:
        stream.seek(at)
        header = stream.read(8)
        length = int.from_bytes(header[4:8], "little")
        if header[:4] != b"RIFF":
            return
        if length == 0:  # of a live one, which was not finished
            _chunks(stream, at + 12, size)
            return
        if at and stream.read(4) == b"AVI ":
            raise _Several
        if at + 8 + length > size:
            raise _Cut
        at += 8 + length + length % 2


def _chunks(stream: BinaryIO, at: int, size: int) -> None:
    """AVI's chunks one by one; lists of unknown size are entered."""
    while at + 8 <= size:
        stream.seek(at)
        header = stream.read(12)
        length = int.from_bytes(header[4:8], "little")
        if not header[:4].isalnum() and not header[:4].strip().isalnum():
            return
        if header[:4] == b"LIST" and (length == 0 or header[8:12] == b"movi"):
            at += 12
            continue
        if at + 8 + length > size:
            raise _Cut
        at += 8 + length + length % 2


def _file_size(stream: BinaryIO, size: int) -> None:
    """ASF and WMV: the header has the size of the file, unless it was sent live."""
    head = stream.read(_ASF_HEADER_BYTES)
    at = head.find(_FILE_PROPERTIES)
    if at < 0 or len(head) < at + 92 or head[at + 88] & 1:
        return
    if int.from_bytes(head[at + 40 : at + 48], "little") > size:
        raise _Cut


def _tags(stream: BinaryIO, size: int) -> None:
    """FLV: each tag says its size twice."""
    stream.seek(5)
    at = int.from_bytes(stream.read(4), "big") + 4
    while at < size:
        stream.seek(at)
        header = stream.read(11)
        if header[0] not in _TAGS:
            return  # what a recorder may have added behind the last tag
        if len(header) < 11:
            raise _Cut
        at += 11 + int.from_bytes(header[1:4], "big") + 4
        if at > size:
            raise _Cut


_FOLLOWED: dict[str, Callable[[BinaryIO, int], None]] = {
    "mov": _boxes,
    "matroska": _elements,
    "avi": _riffs,
    "asf": _file_size,
    "flv": _tags,
}
