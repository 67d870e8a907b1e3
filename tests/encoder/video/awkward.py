"""Videos that hospitals have and encoders make, with the barcode of `barcode.py` in every frame."""

import av
import numpy as np

WIDTH, HEIGHT = 320, 240


def picture(number, size=(WIDTH, HEIGHT)):
    frame = np.full((*size[::-1], 3), 40, np.uint8)
    for bit in range(12):
        if number >> bit & 1:
            row, column = divmod(bit, 6)
            frame[row * 40 : row * 40 + 40, round(column * WIDTH / 6) : round((column + 1) * WIDTH / 6)] = 220
    return frame


def write(
    path,
    codec="libx264",
    frames=range(300),
    options=None,
    b_frames=None,
    container=None,
    pix_fmt="yuv420p",
    size=(WIDTH, HEIGHT),
):
    """Write frames at 25 a second."""
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=25, options=options or {})
        (stream.width, stream.height), stream.pix_fmt = size, pix_fmt
        if b_frames is not None:
            stream.codec_context.max_b_frames = b_frames
        for number in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number, size), format="rgb24")))
        out.mux(stream.encode(None))
    return path
