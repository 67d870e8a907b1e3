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
_SAME = timedelta(milliseconds=1)
"""Moments that are computed in two ways differ by no more."""
_ONSETS = {Kind.EEG_ONSET, Kind.CLINICAL_ONSET}
_A_MOMENT_S = 1.0
"""What some systems give the mark of an onset as its duration."""
LONG_S = 600.0
"""A person should look at what lasts longer."""


@dataclass(slots=True)
class Seizure:
    """A seizure as the lists have it.

    Attributes:
        marks: when each kind of onset was, of those that are known.
        end: None where nothing says it.
        places: the lines that it is made of.
        labels: those that were given.
        semiology: tags.
        of_signs: whether nothing but signs tells that it was one.
    """

    marks: dict[Kind, datetime] = field(default_factory=dict)
    end: datetime | None = None
    places: list[str] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)
    semiology: set[str] = field(default_factory=set)
    of_signs: bool = True

    @property
    def begins(self) -> datetime:
        """The first of its marks."""
        return min(self.marks.values())

    @property
    def label(self) -> str:
        """The one that was given, empty where there was none, or several."""
        return next(iter(self.labels)) if len(self.labels) == 1 else ""

    @property
    def onset(self) -> datetime | None:
        """The clinical onset; of a list that has one onset for all, that one; not the EEG's alone."""
        return self.marks.get(Kind.CLINICAL_ONSET, self.marks.get(Kind.SEIZURE))

    def takes(self, kind: Kind, at: datetime) -> bool:
        """Whether a mark may belong to it."""
        if kind == Kind.END:
            return self.end is None and (at - self.begins).total_seconds() <= _LONGEST_S
        if self.end is not None:
            if kind == Kind.SIGN and self.of_signs:
                return (at - self.end).total_seconds() <= _TOGETHER_S
            return self.end - at > _SAME
        return kind not in self.marks and (at - max(self.marks.values())).total_seconds() <= _TOGETHER_S

    def take(self, annotation: Annotation, at: datetime, until: datetime) -> None:
        """Add a mark, and with a duration when it ends."""
        self.places.append(annotation.place)
        self.labels |= {annotation.label} - {""}
        self.semiology |= set(annotation.semiology)
        self.of_signs = self.of_signs and annotation.kind == Kind.SIGN
        if annotation.kind == Kind.END:
            self.end = at
            return
        if annotation.kind != Kind.SIGN or not self.marks:
            self.marks.setdefault(Kind.SEIZURE if annotation.kind == Kind.SIGN else annotation.kind, at)
        if annotation.duration_s is not None and not (
            annotation.kind in _ONSETS and annotation.duration_s <= _A_MOMENT_S
        ):
            self.end = until if self.end is None else max(self.end, until)


def seizures(
    marks: Iterable[tuple[Annotation, datetime]], length_s: float | None
) -> tuple[list[Seizure], list[LeftOut], list[str]]:
    """The seizures of one patient, the lines that give none, and notes.

    Args:
        marks: annotations with their moments, in whatever order.
        length_s: how long a seizure lasts that nothing gives an end; None to leave it out.
    """
    found: list[Seizure] = []
    left_out: list[LeftOut] = []
    notes: list[str] = []
    # The end of one seizure comes before what begins at the same moment, to the millisecond.
    moments = (
        (annotation, _to_ms(at), _to_ms(at + timedelta(seconds=annotation.duration_s or 0))) for annotation, at in marks
    )
    for annotation, at, until in sorted(moments, key=_in_order):
        if found and found[-1].takes(annotation.kind, at):
            if found[-1].end is not None and annotation.kind in found[-1].marks:
                notes.append(f"{found[-1].places[0]} and {annotation.place} overlap: they are taken for one seizure")
            found[-1].take(annotation, at, until)
        elif annotation.kind == Kind.END:
            second = found and found[-1].end is not None and (at - found[-1].begins).total_seconds() <= _LONGEST_S
            reason = (
                "a second end of the seizure before it" if second else "the end of a seizure whose onset is missing"
            )
            left_out.append(LeftOut(annotation.place, reason))
        else:
            found.append(Seizure())
            found[-1].take(annotation, at, until)
    whole = []
    for seizure in found:
        if seizure.end is None and length_s is not None:
            seizure.end = seizure.begins + timedelta(seconds=length_s)
        if seizure.end is None or seizure.end <= seizure.begins:
            reason = (
                "nothing says when this seizure ends: add its end to the list, or say how long one lasts with --length"
            )
            left_out += (LeftOut(place, reason) for place in seizure.places)
            continue
        whole.append(seizure)
        if (lasts := (seizure.end - seizure.begins).total_seconds()) > LONG_S:
            notes.append(
                f"{seizure.places[0]}: the seizure lasts {lasts / 60:.0f} minutes: look whether an end or an onset is "
                "missing"
            )
        if len(seizure.labels) > 1:
            notes.append(f"{seizure.places[0]}: lines of this seizure name different labels: it gets neither")
    return whole, left_out, notes


def _in_order(mark: tuple[Annotation, datetime, datetime]) -> tuple[datetime, bool]:
    ends = mark[0].kind == Kind.END
    return mark[1] - _SAME * ends, not ends


def _to_ms(moment: datetime) -> datetime:
    """The moment to the millisecond, which is finer than any list."""
    near = moment + timedelta(microseconds=500)
    return near.replace(microsecond=near.microsecond // 1000 * 1000)
