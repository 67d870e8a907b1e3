"""H.264 in fields, as interlaced cameras code it: no encoder at hand makes it, so here macroblocks are plain samples.

Syntax of ITU-T H.264, 7.3: two slices of I_PCM macroblocks to a picture, the top field first.
"""

import numpy as np

WIDTH, HEIGHT = 320, 256
_FRAME_NUMBER_BITS = 4


class _Writer:
    def __init__(self):
        self.bits = []

    def put(self, value, count):
        self.bits += [value >> shift & 1 for shift in reversed(range(count))]
        return self

    def golomb(self, *values):
        for value in values:
            self.put(0, (value + 1).bit_length() - 1).put(value + 1, (value + 1).bit_length())
        return self

    def signed(self, value):
        return self.golomb(2 * value - 1 if value > 0 else -2 * value)

    def align(self):
        return self.put(0, -len(self.bits) % 8)

    def bytes(self, stop=True):
        if stop:
            self.put(1, 1)
        self.align()
        return np.packbits(np.array(self.bits, np.uint8)).tobytes()


def _unit(header, payload):
    """A unit of the byte stream, with what keeps start codes out of it."""
    safe = bytearray()
    zeros = 0
    for byte in payload:
        if zeros >= 2 and byte <= 3:
            safe.append(3)
            zeros = 0
        safe.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return b"\0\0\0\1" + bytes([header]) + bytes(safe)


def sequence(scaling=False):
    """A sequence parameter set: main profile, or high with scaling matrices, interlaced."""
    bits = _Writer().put(100 if scaling else 77, 8).put(0, 8).put(40, 8).golomb(0)
    if scaling:
        bits.golomb(1, 0, 0).put(0, 1).put(1, 1)  # 4:2:0, 8 bits, with matrices
        for number in range(8):
            bits.put(number % 2, 1)
            if number % 2:
                for _ in range(16 if number < 6 else 64):
                    bits.signed(0)
    bits.golomb(_FRAME_NUMBER_BITS - 4, 2, 1).put(0, 1)  # order of output is that of decoding
    bits.golomb(WIDTH // 16 - 1, HEIGHT // 32 - 1).put(0, 1).put(0, 1).put(1, 1).put(0, 1).put(0, 1)
    return _unit(0x67, bits.bytes())


def _pictures():
    bits = _Writer().golomb(0, 0).put(0, 2).golomb(0, 0, 0).put(0, 3).golomb(0, 0, 0)
    return _unit(0x68, bits.put(1, 1).put(0, 2).bytes())


def _field(luma, frame_number, bottom):
    bits = _Writer().golomb(0, 7, 0).put(frame_number, _FRAME_NUMBER_BITS).put(1, 1).put(bottom, 1)
    if frame_number == 0 and not bottom:
        bits.golomb(0).put(0, 2)  # a fresh start
    else:
        bits.put(0, 1)
    bits.signed(0).golomb(1)  # quantiser, no deblocking
    parts = []
    for y in range(0, HEIGHT // 2, 16):
        for x in range(0, WIDTH, 16):
            parts.append(luma[y : y + 16, x : x + 16].tobytes() + bytes([128]) * 128)
    head = bits.golomb(25).align().bytes(stop=False)
    between = _Writer().golomb(25).align().bytes(stop=False)
    return _unit(0x65 if frame_number == 0 and not bottom else 0x61, head + between.join(parts) + b"\x80")


def pictures(greys):
    """Access units of each picture: (top field, bottom field), from (HEIGHT, WIDTH) luma."""
    for number, grey in enumerate(greys):
        grey = np.clip(grey, 1, 254).astype(np.uint8)
        headers = sequence() + _pictures() if number == 0 else b""
        frame_number = number % (1 << _FRAME_NUMBER_BITS)
        yield headers + _field(grey[0::2], frame_number, False), _field(grey[1::2], frame_number, True)
