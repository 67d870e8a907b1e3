"""Words for seizures: the classes they are told apart into, and the signs that can be seen or heard.

Signs have HED-SCORE 2 names, from the HED library schema SCORE (Hermes et al., 2025), and the words of the ILAE's
glossaries (Blume et al., 2001; Fisher et al., 2017).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from index.errors import InvalidInput
from index.records import ID

_FEWEST, _MOST = 2, 10
HED_VERSION = ("8.3.0", "sc:score_2.0.0")
"""Schemas that the names are from; in a HED string each stands behind `sc:`."""

SIGNS: dict[str, str] = {
    "Semiology-motor-behavioral-arrest": "behaviour arrest",
    "Semiology-dyscognitive": "impaired awareness",
    "Semiology-automatisms": "automatisms",
    "Semiology-oroalimentary": "oroalimentary automatisms",
    "Semiology-manual": "manual or pedal automatisms",
    "Semiology-gestural": "gestural automatisms",
    "Semiology-mimetic": "mimetic automatisms (facial expression)",
    "Semiology-gelastic": "gelastic (laughing)",
    "Semiology-dacrystic": "dacrystic (crying)",
    "Semiology-hypermotor": "hyperkinetic",
    "Semiology-hypokinetic": "hypokinetic",
    "Semiology-tonic": "tonic",
    "Semiology-dystonic": "dystonic",
    "Semiology-postural": "postural, as the fencing posture",
    "Semiology-versive": "version of eyes, head or trunk",
    "Semiology-clonic": "clonic",
    "Semiology-tonic-clonic": "tonic-clonic",
    "Semiology-jacksonian-march": "Jacksonian march",
    "Semiology-myoclonic-jerk": "myoclonic jerks",
    "Semiology-negative-myoclonus": "negative myoclonus",
    "Semiology-epileptic-spasm": "epileptic spasms",
    "Semiology-atonic": "atonic",
    "Semiology-astatic": "astatic (drop)",
    "Semiology-eye-blinking": "eye blinking",
    "Semiology-vocalization": "vocalization",
    "Semiology-verbalization": "verbalization",
    "Semiology-hypersalivation": "hypersalivation",
    "Semiology-respiratory-apnoeic": "apnoea",
    "Semiology-vasomotor": "flushing or pallor",
    "Postictal-nose-wiping": "nose wiping afterwards",
}


@dataclass(frozen=True, slots=True)
class Classes:
    """The names of classes.

    Attributes:
        names: 2 to 10, in the order of a head's outputs.
        positive: the one that F1, ROC and reliability are of; None where no class is singled out, which more than two
            allow. Of two it is the second by default.

    Raises:
        InvalidInput: If there are too few or too many, two are spelled alike, or one is no plain name.
    """

    names: tuple[str, ...]
    positive: str | None = None

    def __post_init__(self) -> None:
        if not _FEWEST <= len(self.names) <= _MOST:
            raise InvalidInput(f"expected {_FEWEST} to {_MOST} classes, got {len(self.names)}", field="classes")
        if not all(isinstance(name, str) and ID.fullmatch(name) for name in self.names):
            raise InvalidInput(
                "expected names of classes of 1 to 64 letters, digits, dots, underscores or hyphens", field="classes"
            )
        if len({name.casefold() for name in self.names}) < len(self.names):
            raise InvalidInput("expected names of classes that differ by more than small and capital letters")
        if self.positive is None and len(self.names) == _FEWEST:
            object.__setattr__(self, "positive", self.names[1])
        if self.positive is not None and self.positive not in self.names:
            raise InvalidInput(f"expected one of {', '.join(self.names)} as the positive class", field="positive")

    def __len__(self) -> int:
        return len(self.names)

    def number(self, label: str) -> int:
        """The number of a class, from 0, for what is stored or listed.

        Raises:
            InvalidInput: If it is none of them; it is named.
        """
        if label not in self.names:
            raise InvalidInput(f"label {label[:64]!r} is none of the classes ({self.listed}): see `semiome classes`")
        return self.names.index(label)

    def check(self, labels: Iterable[str], field: str = "label") -> None:
        """Refuse labels that are no class; an empty one says nothing and passes.

        Raises:
            InvalidInput: If one is none of the classes.
        """
        if any(label and label not in self.names for label in labels):
            # What a caller typed is not said again: it may be anything.
            raise InvalidInput(
                f"expected {self.listed} or nothing as a label, got another: see `semiome classes`", field=field
            )

    @property
    def listed(self) -> str:
        """All names, as a sentence has them."""
        return " or ".join(self.names) if len(self) == _FEWEST else "one of " + ", ".join(self.names)


PAPER = Classes(("TLE", "exTLE"), "exTLE")
"""Temporal and extratemporal lobe epilepsy: what a workspace has where nothing else is said."""


@dataclass(frozen=True, slots=True)
class LearnedSign:
    """One sign, and how well it is told in patients that were left out.

    Attributes:
        name: HED-SCORE name, or the users' own.
        patients: that show it.
        others: whose videos are tagged and do not show it.
        auroc: of videos, by heads that had not seen their patients.
        auroc_low: of its 95 % interval over patients.
        auroc_high: of the same.
    """

    name: str
    patients: int
    others: int
    auroc: float
    auroc_low: float
    auroc_high: float


class Stretch(NamedTuple):
    """Seconds of a video in which something is probable: from, to, and the highest probability in it."""

    start_s: float
    end_s: float
    probability: float
