"""The order of pictures as MPEG-1, MPEG-2 and MPEG-4 Part 2 write it into them, whatever the container says.

A packet that was lost or put elsewhere shows in no error: the decoder builds the next picture on another one. But each
picture that others build on says when it is shown, counted in its group (ISO/IEC 13818-2, 6.3.9) or in seconds and
parts of one (ISO/IEC 14496-2, 6.3.5), and that never goes back from one such picture to the next.
"""

from __future__ import annotations

from encoder.container.bits import Bits, Malformed, units

_PICTURE, _GROUP, _LAYERS = 0x00, 0xB8, range(0x20, 0x30)
_VOP, _GROUP_OF_VOPS = 0xB6, 0xB3
_INTRA, _BOTH_WAYS = 1, 3
_INTRA_VOP, _VOP_BOTH_WAYS = 0, 2
_COUNTED = 1024
"""Places in a group are counted up to this."""
_SEARCHED_BYTES = 4096


class GroupOrder:
    """Reads the packets of one MPEG-1 or MPEG-2 stream, in decoding order."""

    def __init__(self) -> None:
        self._last = -1
        self._between = 0
        self._expected = 0

    def is_misplaced(self, packet: bytes) -> bool:
        """Whether a picture is missing that the next packet's may build on, or comes later."""
        for unit in units(packet[:_SEARCHED_BYTES]):
            if unit[:1] == bytes([_PICTURE]) and len(unit) > 2:
                return self._follows_badly(unit[1] << 2 | unit[2] >> 6, unit[2] >> 3 & 7)
            if unit[:1] == bytes([_GROUP]):
                self._last, self._expected = -1, 0
        return False

    def _follows_badly(self, place: int, kind: int) -> bool:
        """Whether a picture at this place in its group does not follow the one before."""
        if kind == _BOTH_WAYS:  # shown before the picture that came last
            self._between += 1
            return self._last >= 0 and 0 < (place - self._last) % _COUNTED < _COUNTED // 2
        missing = self._between < self._expected
        ahead = (place - self._last) % _COUNTED
        back = self._last >= 0 and ahead > _COUNTED // 2
        # Between two pictures that others build on stand as many that nothing builds on as places are left out.
        self._expected = ahead - 1 if self._last >= 0 and 0 < ahead <= _COUNTED // 2 else 0
        self._last, self._between = place, 0
        return kind != _INTRA and (back or missing)


class VopOrder:
    """Reads the packets of one MPEG-4 Part 2 stream, in decoding order.

    Args:
        extradata: of the container; how fine its clock is stands there, or in a packet.
    """

    def __init__(self, extradata: bytes) -> None:
        self._parts_a_second = 0
        self._second = 0
        self._last = (-1, 0)
        self._look_for_layer(extradata)

    def is_misplaced(self, packet: bytes) -> bool:
        """Whether the next packet's picture is shown before one that it may build on: they are out of order."""
        head = packet[:_SEARCHED_BYTES]
        self._look_for_layer(head)
        for unit in units(head):
            if unit[:1] == bytes([_GROUP_OF_VOPS]):
                self._second, self._last = 0, (-1, 0)
            elif unit[:1] == bytes([_VOP]) and self._parts_a_second:
                try:
                    return self._is_before_last(Bits(unit[1:16]))
                except Malformed:
                    return False
        return False

    def _is_before_last(self, bits: Bits) -> bool:
        kind = bits.take(2)
        if kind == _VOP_BOTH_WAYS:
            return False
        while bits.take(1):
            self._second += 1
        bits.take(1)
        last, self._last = self._last, (self._second, bits.take(max((self._parts_a_second - 1).bit_length(), 1)))
        return kind != _INTRA_VOP and self._last < last

    def _look_for_layer(self, data: bytes) -> None:
        for unit in units(data):
            if unit and unit[0] in _LAYERS:
                try:
                    self._parts_a_second = _clock_of_layer(Bits(unit[1:64]))
                except Malformed:
                    return


def _clock_of_layer(bits: Bits) -> int:
    """Parts of a second in which a video object layer counts (6.2.3)."""
    bits.take(9)
    version = 1
    if bits.take(1):
        version = bits.take(4)
        bits.take(3)
    if bits.take(4) == 15:
        bits.take(16)
    if bits.take(1):
        bits.take(3)
        if bits.take(1):
            bits.take(79)
    if bits.take(2) == 3 and version != 1:
        bits.take(4)
    bits.take(1)
    return bits.take(16)
