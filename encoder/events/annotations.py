"""An annotation: one line of what an EEG system or a person noted, and what its words mean."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time
from enum import StrEnum
from pathlib import Path
from typing import Any

from index.errors import InvalidInput
from index.records import ID
from index.semiology import PAPER


class Kind(StrEnum):
    """What an annotation marks."""

    SEIZURE = "seizure"
    """A seizure: where it begins, or, with a duration, all of it."""
    EEG_ONSET = "eeg_onset"
    CLINICAL_ONSET = "clinical_onset"
    END = "end"
    SIGN = "sign"
    """A sign that was seen, or a label that was given, within a seizure."""
    NOT_A_SEIZURE = "not_a_seizure"
    """Looks like one, and is none."""
    PASSED_OVER = "passed_over"
    """Known, and no part of a seizure."""
    UNKNOWN = "unknown"
    """Its words are not known; background keeps away from it."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """One line of a list.

    Attributes:
        place: file and line, for people.
        kind: what it marks.
        at: when, by the clock: with a date, or a time of day alone; None where `offset_s` says it.
        until: when it ends, written as `at`; None where `duration_s` says it, or nothing.
        offset_s: when, in seconds of the recording that `recording` names, or of the patient's only one.
        recording: file name or video id of that recording, or empty.
        duration_s: how long, None where it marks a moment.
        patient_id: whose, or empty where the list does not say.
        label: its class, or empty.
        semiology: tags.
    """

    place: str
    kind: Kind
    at: datetime | time | None = None
    until: datetime | time | None = None
    offset_s: float | None = None
    recording: str = ""
    duration_s: float | None = None
    patient_id: str = ""
    label: str = ""
    semiology: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A line that gives no row, and why."""

    place: str
    reason: str


@dataclass(slots=True)
class Annotations:
    """What the lists say.

    Attributes:
        understood: in the order of the files.
        left_out: what can't be read.
        notes: what a person should know, line by line.
        undated: patients with lines whose time can't be told; empty for a line that does not say whose it is.
    """

    understood: list[Annotation] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    undated: set[str] = field(default_factory=set)

    def leave_out(self, place: str, reason: str, patient_id: str = "") -> None:
        """Leave out a line whose time can't be told."""
        self.left_out.append(LeftOut(place, reason))
        self.undated.add(patient_id)


_QUALIFIERS = frozenset(
    (
        *("focal", "generalized", "generalised", "bilateral", "tonic", "clonic", "myoclonic", "atonic", "absence"),
        *("hyperkinetic", "automatisms", "aware", "impaired", "awareness", "motor", "nonmotor", "epileptic"),
        *("temporal", "frontal", "parietal", "occipital", "insular", "left", "right", "to", "onset", "with", "and"),
        *("behavior", "behaviour", "arrest", "autonomic", "cognitive", "emotional", "sensory"),
        *("gtc", "gtcs", "btcs", "fbtcs", "fas", "fias"),
    )
)
"""Words that say what kind of seizure it is."""
_TOKENS = re.compile(r"[^\W\d_]+|\d+|[^\w\s.,:;()/#&\-\N{EN DASH}]")
_USUAL: Mapping[Kind, tuple[str, ...]] = {
    Kind.SEIZURE: ("seizure", "sz", "seizure onset", "seizure start", "seizure begins", "sz onset", "sz start"),
    Kind.EEG_ONSET: ("eeg onset", "eeg seizure onset", "eeg sz onset", "electrographic onset"),
    Kind.CLINICAL_ONSET: ("clinical onset", "clinical seizure onset", "clinical sz onset"),
    Kind.END: (
        *("end of seizure", "seizure end", "seizure ends", "seizure offset", "seizure stop", "sz end", "sz offset"),
        *("end of sz", "clinical offset", "clinical seizure end", "eeg offset", "eeg seizure end"),
    ),
    Kind.NOT_A_SEIZURE: ("not a seizure",),
    Kind.PASSED_OVER: ("bckg", "background"),
}
_COLUMNS = {
    "patient_id": ("patient_id", "patient", "subject", "participant_id"),
    "date": ("date",),
    "time": ("time", "onset", "start", "start_time", "datetime", "clock"),
    "end": ("end", "end_time", "stop"),
    "duration": ("duration", "duration_s"),
    "text": ("event", "annotation", "text", "description", "type", "comment", "trial_type"),
    "recording": ("recording", "file_name", "file", "video"),
    "label": ("label", "classification"),
    "semiology": ("semiology", "signs", "tags"),
}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """How a centre names columns, words and labels.

    Attributes:
        columns: names of a list's columns, by what they hold.
        words: wordings, without case and punctuation, by what they mean.
        labels: a centre's words for the labels.
        classes: the labels.
    """

    columns: Mapping[str, tuple[str, ...]]
    words: Mapping[str, Kind]
    labels: Mapping[str, str]
    classes: tuple[str, ...]

    def kind_of(self, text: str) -> Kind:
        """What a wording means; nothing is guessed from a word within it.

        The number of a seizure (`Sz 3`) changes nothing, nor does what kind it is (`Sz 3 focal`). A number before the
        word may be how many there were, and a question mark is a doubt: their meaning is not known.
        """
        first, *others = _plain(text).replace("non motor", "nonmotor").split() or [""]
        words = [first, *(word for word in others if not word.isdigit())]
        for said in ([first, *others], words):
            for passed_over in (frozenset[str](), _QUALIFIERS - {"onset"}, _QUALIFIERS):
                if kind := self.words.get(" ".join(word for word in said if word not in passed_over)):
                    return kind
        return Kind.UNKNOWN

    def label_of(self, text: str) -> str:
        """The label that a centre's word means.

        Raises:
            ValueError: If it is none.
        """
        if not text or text in self.classes:
            return text
        known = self.labels.get(_plain(text))
        if known is None:
            listed = " or ".join(self.classes)
            raise ValueError(f"{text[:64]!r} is no label: write {listed}, or name the word under [labels]")
        return known


def read_mapping(path: Path | None) -> Vocabulary:
    """The usual wordings, and those of a TOML file.

    Raises:
        InvalidInput: If it can't be read, or names what there is not.
    """
    given: dict[str, Any] = {}
    if path is not None:
        try:
            given = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InvalidInput(f"the mapping can't be read ({type(error).__name__}): give TOML in UTF-8") from None
    if unknown := set(given) - {"columns", "words", "labels"}:
        raise InvalidInput(f"unknown section [{min(unknown)}] of the mapping: expected [columns], [words], [labels]")
    columns = {name: names + _texts(given, "columns", name, _COLUMNS) for name, names in _COLUMNS.items()}
    kinds = {kind.value: kind for kind in Kind if kind not in {Kind.SIGN, Kind.UNKNOWN}}
    words = {_plain(word): kind for kind, usual in _USUAL.items() for word in usual}
    for name, kind in kinds.items():
        words |= {_plain(word): kind for word in _texts(given, "words", name, kinds)}
    classes = _classes(given.get("labels", {}))
    labels: dict[str, str] = {}
    for label in classes:
        labels |= {_plain(word): label for word in _texts(given, "labels", label, classes)}
    return Vocabulary(columns, words, labels, classes)


def _classes(section: object) -> tuple[str, ...]:
    """The paper's, unless the section [labels] has another name; then those that it has."""
    names = tuple(section) if isinstance(section, dict) else ()
    if set(names) <= set(PAPER.names):
        return PAPER.names
    if wrong := [name for name in names if not ID.fullmatch(name)]:
        raise InvalidInput(
            f"{wrong[0][:64]!r} under [labels] of the mapping is no name of a class: expected letters, digits, dots, "
            "underscores or hyphens"
        )
    return names


def _texts(mapping: Mapping[str, Any], title: str, name: str, known: Iterable[str]) -> tuple[str, ...]:
    """The texts under a name of a section: one, or a list of them."""
    section = mapping.get(title, {})
    if not isinstance(section, dict):
        raise InvalidInput(f"expected [{title}] to be a section of the mapping")
    if unknown := sorted(set(section) - set(known)):
        raise InvalidInput(
            f"unknown name {unknown[0][:64]!r} under [{title}] of the mapping: expected {', '.join(known)}"
        )
    given = section.get(name, [])
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) and _plain(text) for text in texts):
        raise InvalidInput(f"expected a text or a list of texts for {name} in the mapping")
    return tuple(texts)


def _plain(text: str) -> str:
    """The words, numbers and signs of doubt of a wording, without case and the punctuation that means nothing."""
    return " ".join(_TOKENS.findall(unicodedata.normalize("NFC", text).casefold()))
