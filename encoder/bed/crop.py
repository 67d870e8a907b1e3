"""What part of a video's picture is embedded: a box of the manifest, the bed that a detector finds, or all of it.

The policy belongs to the encoder and is part of its id: embeddings of beds and of whole rooms are never compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from encoder.bed.detector import FoundBed
from encoder.clips import Source
from encoder.picture import Crop
from index.errors import InvalidInput
from index.files.durable import small_file, write_text_atomically
from index.records import CLIP_SECONDS

NO_BED = ("refuse", "whole", "camera")
"""What to do with a video in whose first frame no bed is found: refuse it, use the whole picture, or use the last box
known of the same camera (and refuse the video where none is known)."""
LEAST_PIXELS = 16
_POLICY = "crop.json"
_SOURCE = re.compile(r"(track (?P<track>\d+) ?)?(?P<segment>from [\d.]+ to [\w.]+ ?)?(every (?P<stride>[\d.]+) ?)?")
_USED = re.compile(r"(bed|camera|manifest) (\d+) (\d+) (\d+) (\d+) of (\d+)x(\d+)")


@dataclass(frozen=True, slots=True)
class CropPolicy:
    """How the bed's box becomes a crop. A fixed `crop` of the manifest goes before all of it.

    Attributes:
        detector_id: who finds it, in the first frame shown; of several beds the surest counts.
        confidence: what is less sure is not a bed, (0, 1].
        margin: added on each side, as a share of the box's width or height, [0, 1].
        no_bed: one of `NO_BED`.
    """

    detector_id: str
    confidence: float = 0.5
    margin: float = 0.1
    no_bed: str = "refuse"

    def __post_init__(self) -> None:
        if not 0 < self.confidence <= 1 or not 0 <= self.margin <= 1:
            raise InvalidInput(
                f"expected a confidence above 0 and a margin of at least 0, both up to 1, got {self.confidence} and "
                f"{self.margin}"
            )
        if self.no_bed not in NO_BED:
            raise InvalidInput(f"expected {', '.join(NO_BED)} for a video without a bed, got {self.no_bed!r}")

    def crop(self, beds: Sequence[FoundBed], width: int, height: int) -> Crop | None:
        """The box to use of a picture of this size, None when no bed was found."""
        sure = [bed for bed in beds if bed.confidence >= self.confidence]
        if not sure:
            return None
        bed = max(sure, key=lambda bed: bed.confidence)
        across, down = self.margin * (bed.right - bed.left), self.margin * (bed.bottom - bed.top)
        x, w = _side(bed.left - across, bed.right + across, width)
        y, h = _side(bed.top - down, bed.bottom + down, height)
        return Crop(x, y, w, h) if min(w, h) >= LEAST_PIXELS else None


def _side(low: float, high: float, size: int) -> tuple[int, int]:
    """Where a side begins and how long it is, in whole pixels of a picture of `size`."""
    begin, end = max(round(low), 0), min(round(high), size)
    return begin, end - begin


@dataclass(frozen=True, slots=True)
class UsedCrop:
    """What part of a video was embedded, and who said so.

    Attributes:
        box: of the shown picture; None for all of it.
        origin: `manifest`, `bed`, `camera` (the last box of the same camera), or `whole` (no bed was found); empty
            where no crop was asked for.
        picture: width and height of the picture that the box is of; 0 where no picture was looked at.
    """

    box: Crop | None = None
    origin: str = ""
    picture: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        """The text that the store keeps: `bed x y w h of WxH`, `camera ...`, `manifest ...`, `whole`, or empty.

        A manifest's box for an encoder without a policy is `x y w h` alone.
        """
        if self.box is not None and self.picture != (0, 0):
            return f"{self.origin} {self.box} of {self.picture[0]}x{self.picture[1]}"
        return self.origin if self.box is None else str(self.box)


class CutFrom(NamedTuple):
    """What of a file clips were cut from, and how.

    Attributes:
        track: number of the track, where the file has several films.
        segment: as `str(Segment)`.
        stride_s: seconds from one clip to the next.
    """

    track: int | None
    segment: str
    stride_s: float

    @classmethod
    def of(cls, source: Source) -> CutFrom:
        """What a decoder is given."""
        return cls(source.track, str(source.segment), source.stride_s)


def with_source(used: str, cut: CutFrom) -> str:
    """A used crop, see `UsedCrop`, as the store keeps it: after what of the file was used, where that is not all."""
    track = "" if cut.track is None else f"track {cut.track}"
    stride = "" if cut.stride_s == CLIP_SECONDS else f"every {cut.stride_s:.12g}"
    return " ".join(filter(None, (track, cut.segment, stride, used)))


def source_and_crop(text: str) -> tuple[CutFrom, str]:
    """The reverse of `with_source`."""
    match = _SOURCE.match(text)
    if match is None:
        return CutFrom(None, "", CLIP_SECONDS), text
    track, stride = match["track"], float(match["stride"] or CLIP_SECONDS)
    cut = CutFrom(None if track is None else int(track), (match["segment"] or "").strip(), stride)
    return cut, text[match.end() :]


def used_crop(text: str) -> UsedCrop:
    """The reverse of `str(UsedCrop)`, with a source or without; what it can't read counts as a manifest's."""
    _, text = source_and_crop(text)
    if match := _USED.fullmatch(text):
        x, y, w, h, width, height = (int(number) for number in match.groups()[1:])
        return UsedCrop(Crop(x, y, w, h), match[1], (width, height))
    return UsedCrop(origin=text if text in {"", "whole"} else "manifest")


def follows(used: str, fixed: Crop | None, policy: CropPolicy | None) -> bool:
    """Whether clips that were embedded with `used` are what a manifest's crop and an encoder's policy ask for."""
    if policy is None:
        return used == str(fixed or "")
    crop = used_crop(used)
    if fixed is not None:
        return crop.origin == "manifest" and crop.box == fixed
    return crop.origin in {"bed", "camera", "whole"}


def write_policy(policy: CropPolicy, folder: Path) -> None:
    """Put a policy into an encoder's folder."""
    write_text_atomically(folder / _POLICY, json.dumps(asdict(policy), indent=2) + "\n")


def read_policy(folder: Path) -> CropPolicy | None:
    """The policy of an encoder's folder; None where it has none.

    Raises:
        InvalidInput: If it can't be read.
    """
    try:
        return CropPolicy(**json.loads(small_file(folder / _POLICY)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        raise InvalidInput(f"the encoder's {_POLICY} can't be read: give it its crop again") from None
