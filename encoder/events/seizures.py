"""Annotations to seizures: marks of one patient that belong together, from the first of them to the end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from encoder.events.annotations import Annotation, Kind, LeftOut

_TOGETHER_S = 120.0
"""Longest time between two marks of one onset: of the EEG, of what is seen, and of the seizure as such."""
_LONGEST_S = 3600.0
"""An end that comes later than this after an onset is not that seizure's."""


@dataclass(slots=True)
class Seizure:
    """A seizure as the lists have it.

    Attributes:
        marks: when each kind of onset was, of those that are known.
        end: None where nothing says it.
        places: the lines that it is made of.
        label: TLE, exTLE or empty.
        semiology: tags.
        of_signs: whether nothing but signs tells that it was one.
    """

    marks: dict[Kind, datetime] = field(default_factory=dict)
    end: datetime | None = None
    places: list[str] = field(default_factory=list)
    label: str = ""
    semiology: set[str] = field(default_factory=set)
    of_signs: bool = True

    @property
    def begins(self) -> datetime:
        """The first of its marks."""
        return min(self.marks.values())

    @property
    def onset(self) -> datetime | None:
        """The clinical onset; of a list that has one onset for all, that one; not the EEG's alone."""
        return self.marks.get(Kind.CLINICAL_ONSET, self.marks.get(Kind.SEIZURE))

    def takes(self, kind: Kind, at: datetime) -> bool:
        """Whether a mark may belong to it."""
        if kind == Kind.END:
            return self.end is None and (at - self.begins).total_seconds() <= _LONGEST_S
        if self.end is not None:
            after = _TOGETHER_S if kind == Kind.SIGN and self.of_signs else 0.0
            return (at - self.end).total_seconds() <= after
        return kind not in self.marks and (at - max(self.marks.values())).total_seconds() <= _TOGETHER_S

    def take(self, annotation: Annotation, at: datetime) -> None:
        """Add a mark."""
        self.places.append(annotation.place)
        self.label = self.label or annotation.label
        self.semiology |= set(annotation.semiology)
        self.of_signs = self.of_signs and annotation.kind == Kind.SIGN
        if annotation.kind == Kind.END:
            self.end = at
            return
        if annotation.kind != Kind.SIGN or not self.marks:
            self.marks.setdefault(Kind.SEIZURE if annotation.kind == Kind.SIGN else annotation.kind, at)
        if annotation.duration_s is not None:
            end = at + timedelta(seconds=annotation.duration_s)
            self.end = end if self.end is None else max(self.end, end)


def seizures(
    marks: Iterable[tuple[Annotation, datetime]], length_s: float | None
) -> tuple[list[Seizure], list[LeftOut]]:
    """The seizures of one patient, or of one recording where times count from there.

    Args:
        marks: annotations with their moments, in whatever order.
        length_s: how long a seizure lasts that nothing gives an end; None to leave it out.
    """
    found: list[Seizure] = []
    left_out: list[LeftOut] = []
    for annotation, at in sorted(marks, key=lambda mark: (mark[1], mark[0].kind == Kind.END)):
        if found and found[-1].takes(annotation.kind, at):
            found[-1].take(annotation, at)
        elif annotation.kind == Kind.END:
            left_out.append(LeftOut(annotation.place, "the end of a seizure whose onset is not in the list"))
        else:
            found.append(Seizure())
            found[-1].take(annotation, at)
    whole = []
    for seizure in found:
        if seizure.end is None and length_s is not None:
            seizure.end = seizure.begins + timedelta(seconds=length_s)
        if seizure.end is None or seizure.end <= seizure.begins:
            reason = (
                "nothing says when this seizure ends: add its end to the list, or say how long one lasts with --length"
            )
            left_out += (LeftOut(place, reason) for place in seizure.places)
        else:
            whole.append(seizure)
    return whole, left_out
