"""Bits of a coded stream, and the units that start codes divide it into."""

from __future__ import annotations

from collections.abc import Iterator

START = b"\0\0\1"


class Malformed(ValueError):
    """The bits end too early, or hold what the standard does not know."""


class Bits:
    """Bits of some bytes, in order."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        """The next bits as a number.

        Raises:
            Malformed: If fewer are left.
        """
        if count > self._left:
            raise Malformed
        self._left -= count
        return (self._value >> self._left) & ((1 << count) - 1)

    def golomb(self) -> int:
        """The next number in Exp-Golomb code (ITU-T H.264, 9.1).

        Raises:
            Malformed: If there is none.
        """
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 31:
                raise Malformed
        return (1 << zeros) - 1 + self.take(zeros)

    def signed_golomb(self) -> int:
        """The next signed number in Exp-Golomb code (ITU-T H.264, 9.1.1).

        Raises:
            Malformed: If there is none.
        """
        code = self.golomb()
        return (code + 1) // 2 if code % 2 else -code // 2


def units(data: bytes) -> Iterator[bytes]:
    """What stands between start codes, without them."""
    start = data.find(START)
    while start >= 0:
        end = data.find(START, start + 3)
        yield data[start + 3 : end if end >= 0 else len(data)]
        start = end
