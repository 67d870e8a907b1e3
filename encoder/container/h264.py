"""The few bits of H.264 that say how packets make pictures: fields of one, and whether one is missing.

An interlaced camera may code each field by itself: two packets, which a decoder makes one picture of. And pictures that
others build on are numbered: where one was lost, or stands elsewhere, a decoder builds on another one and reports no
error. Both stand in the slice header (ITU-T H.264, 7.3.2.1, 7.3.3 and 7.4.3), of which the first few values are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from encoder.container.bits import Bits, Malformed, units

_SLICES, _FRESH_START = {1, 2, 5}, 5
_INTRA = 2
_WITH_CHROMA = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
_HEADER_BYTES = 64
_SEARCHED_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class _Sequence:
    """Fields of a sequence parameter set that a slice header can't be read without."""

    number_bits: int
    may_skip_numbers: bool
    separate_planes: bool
    fields: bool


@dataclass(frozen=True, slots=True)
class _Slice:
    """The beginning of a slice header.

    Attributes:
        fresh: nothing before it is needed.
        intra: it builds on no other picture.
        kept: others build on it.
        number: the frame's.
        field: 1 for a top field, 2 for a bottom one, 0 for a whole frame.
        sequence: parameters of its sequence.
    """

    fresh: bool
    intra: bool
    kept: bool
    number: int
    field: int
    sequence: _Sequence


@dataclass(frozen=True, slots=True)
class Coded:
    """How a packet stands to those before it.

    Attributes:
        second_field: it completes the picture that the packet before it began.
        out_of_order: a picture that it may build on is missing, or comes later.
    """

    second_field: bool = False
    out_of_order: bool = False


class H264:
    """Reads the packets of one stream, in decoding order.

    Args:
        extradata: of the container, in either form; may be empty.
    """

    def __init__(self, extradata: bytes) -> None:
        self._length_size = 0
        self._sequences: dict[int, _Sequence] = {}
        self._sequence_of_picture: dict[int, int] = {}
        self._last_kept: int | None = None
        self._first_field: _Slice | None = None
        if extradata[:1] == b"\1" and len(extradata) > 6:
            self._length_size = (extradata[4] & 3) + 1
            known = _units_of_header(extradata)
        else:
            known = units(extradata)
        for unit in known:
            self._learn(unit)

    def look(self, packet: bytes) -> Coded:
        """How the next packet stands to those before it; nothing special where its header can't be read."""
        given = _with_lengths(packet, self._length_size) if self._length_size else units(packet[:_SEARCHED_BYTES])
        for unit in given:
            if unit and unit[0] & 31 in _SLICES:
                try:
                    return self._place(self._slice(unit))
                except (Malformed, KeyError):
                    self._last_kept = self._first_field = None
                    return Coded()  # decoding says what is wrong with it
            self._learn(unit)
        return Coded()

    def _place(self, slice_: _Slice) -> Coded:
        first, self._first_field = self._first_field, None
        if first is not None and {first.field, slice_.field} == {1, 2} and first.number == slice_.number:
            if slice_.kept:
                self._last_kept = slice_.number
            return Coded(second_field=True)
        if slice_.field:
            self._first_field = slice_
        last, follows = self._last_kept, True
        if last is not None and not (slice_.fresh or slice_.intra or slice_.sequence.may_skip_numbers):
            # After a picture that resets the numbers the next one has number 1.
            follows = slice_.number in {last, (last + 1) % (1 << slice_.sequence.number_bits), 1}
        if slice_.kept:
            self._last_kept = slice_.number
        return Coded(out_of_order=not follows)

    def _slice(self, unit: bytes) -> _Slice:
        bits = _safe_bits(unit[1:_HEADER_BYTES])
        bits.golomb()  # first macroblock
        intra = bits.golomb() % 5 == _INTRA
        sequence = self._sequences[self._sequence_of_picture[bits.golomb()]]
        if sequence.separate_planes:
            bits.take(2)
        number = bits.take(sequence.number_bits)
        field = 1 + bits.take(1) if sequence.fields and bits.take(1) else 0
        return _Slice(unit[0] & 31 == _FRESH_START, intra, unit[0] >> 5 & 3 != 0, number, field, sequence)

    def _learn(self, unit: bytes) -> None:
        """Remember a parameter set."""
        try:
            match unit[0] & 31 if unit else 0:
                case 7:
                    number, sequence = _sequence(unit)
                    self._sequences[number] = sequence
                case 8:
                    bits = _safe_bits(unit[1:_HEADER_BYTES])
                    picture, number = bits.golomb(), bits.golomb()
                    self._sequence_of_picture[picture] = number
        except (Malformed, IndexError):
            return


def _sequence(unit: bytes) -> tuple[int, _Sequence]:
    """Number and content of a sequence parameter set."""
    profile = unit[1]
    bits = _safe_bits(unit[4:])
    number = bits.golomb()
    separate = False
    if profile in _WITH_CHROMA:
        chroma = bits.golomb()
        if chroma == 3:
            separate = bool(bits.take(1))
        bits.golomb()  # bits of luma
        bits.golomb()  # bits of chroma
        bits.take(1)
        if bits.take(1):
            _skip_scaling(bits, 12 if chroma == 3 else 8)
    number_bits = bits.golomb() + 4
    match bits.golomb():  # how the order of display is coded
        case 0:
            bits.golomb()
        case 1:
            bits.take(1)
            bits.signed_golomb()
            bits.signed_golomb()
            for _ in range(min(bits.golomb(), 255)):
                bits.signed_golomb()
    bits.golomb()  # reference frames
    may_skip_numbers = bool(bits.take(1))
    bits.golomb()  # width
    bits.golomb()  # height
    if number_bits > 16:
        raise Malformed
    return number, _Sequence(number_bits, may_skip_numbers, separate, fields=not bits.take(1))


def _skip_scaling(bits: Bits, lists: int) -> None:
    """Pass over scaling matrices (7.3.2.1.1.1)."""
    for number in range(lists):
        if not bits.take(1):
            continue
        last = following = 8
        for _ in range(16 if number < 6 else 64):
            if following:
                following = (last + bits.signed_golomb()) % 256
            last = following or last


def _safe_bits(data: bytes) -> Bits:
    """Bits without the bytes that keep start codes out of a unit."""
    return Bits(data.replace(b"\0\0\3", b"\0\0"))


def _units_of_header(extradata: bytes) -> Iterator[bytes]:
    """Parameter sets of a container's own form (ISO/IEC 14496-15, 5.3.3.1)."""
    at = 5
    for mask in (31, 255):
        if at >= len(extradata):
            return
        count, at = extradata[at] & mask, at + 1
        for _ in range(count):
            size = int.from_bytes(extradata[at : at + 2], "big")
            yield extradata[at + 2 : at + 2 + size]
            at += 2 + size


def _with_lengths(packet: bytes, length_size: int) -> Iterator[bytes]:
    """The beginnings of units that their sizes stand before; a parameter set whole."""
    at = 0
    while at + length_size < len(packet):
        size = int.from_bytes(packet[at : at + length_size], "big")
        at += length_size
        yield packet[at : at + min(size, 1024)]
        at += size
