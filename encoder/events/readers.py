"""Annotation lists: EDF+ and BDF+, BIDS' events.tsv (SzCORE's and ours are such), and tables as systems export them."""

from __future__ import annotations

import json
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

import edfio

from encoder.events.annotations import Annotation, Annotations, Kind, LeftOut, Vocabulary
from encoder.events.clock import read_moment, read_seconds, within_reach
from encoder.manifest_cells import read_cell
from encoder.spreadsheet import Table, read_table
from index.errors import InvalidInput
from index.feedback.statement import same_stretch
from index.words import counted

_EDF: Mapping[str, Callable[[Path], Any]] = {".edf": edfio.read_edf, ".bdf": edfio.read_bdf}
_NOT_KNOWN = {"", "n/a", "N/A"}
_TYPES = ("eventType", "event", "trial_type", "value")
"""Columns of events.tsv that say what an event is: SzCORE's two, and BIDS' own."""
_EVENTS = {"seizure", "not a seizure"}
"""Events as `feedback export` calls them."""
_DEIDENTIFIED_YEAR = 1985
_LONGEST_S = 1e8
_HED_SEIZURES = {"seizure", "epileptic-seizure", "electrographic-seizure", "subclinical-seizure", "subtle-seizure"}
"""Tags of HED and its SCORE library; the kinds of epileptic seizures end with `-epileptic-seizure`."""
_SUBJECT = re.compile(r"(?:^|[/_])(sub-[A-Za-z0-9]+)(?=[/_]|$)")


def read_annotations(
    paths: Sequence[Path], vocabulary: Vocabulary, patient_id: str = "", begins: datetime | None = None
) -> Annotations:
    """Read lists, each by its kind.

    Args:
        paths: files that end with .edf or .bdf, with events.tsv, or are tables.
        vocabulary: what a centre's columns and words mean.
        patient_id: whose they all are; by default what each says.
        begins: when the EEG of the one file begins, instead of what it says.

    Raises:
        InvalidInput: If one can't be read.
    """
    if begins is not None and len(paths) > 1:
        raise InvalidInput("--begins is about one file: import the others without it")
    found = Annotations()
    for path in paths:
        if not path.is_file():
            raise InvalidInput(f"there is no file {path.name}")
        if path.suffix.lower() in _EDF:
            _read_edf(path, vocabulary, patient_id, begins, found)
            continue
        data = path.read_bytes()
        if data.startswith(b"PK\x03\x04"):
            raise InvalidInput(f"{path.name} is an Excel workbook: save its sheet as `CSV UTF-8` and give that")
        known = [*_TYPES, *(name for names in vocabulary.columns.values() for name in names)]
        table = read_table(data, ("onset", "duration", *known), path.name)
        for problem in table.problems:
            found.leave_out(f"{path.name}, {problem.partition(':')[0]}", problem, patient_id)
        if {"onset", "duration"} <= set(table.columns) and path.name.endswith("events.tsv"):
            _read_bids(path, table, vocabulary, patient_id, begins, found)
        else:
            _read_list(path, table, vocabulary, patient_id, found)
    return found


def _read_edf(path: Path, vocabulary: Vocabulary, patient_id: str, given: datetime | None, found: Annotations) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            edf = _EDF[path.suffix.lower()](path)
            begins = given or _edf_begin(edf)
            annotations = edf.annotations
            code = _edf_patient(edf)
        except Exception as error:  # noqa: BLE001  a damaged header ends in whatever error it comes to
            raise InvalidInput(
                f"{path.name} is no EDF+ or BDF+ that can be read ({type(error).__name__}): export it again"
            ) from None
    if code and patient_id and code != patient_id:
        found.notes.append(f"the header of {path.name} names another patient than --patient, which counts")
    if warned:
        found.notes.append(f"the header of {path.name} is not quite what EDF+ asks for: look whether its date is right")
    if not annotations:
        found.notes.append(f"{path.name} holds no annotations: export it as EDF+ with events, or give their list")
    if isinstance(begins, datetime) and begins.year == _DEIDENTIFIED_YEAR:
        found.notes.append(
            f"{path.name} begins on {begins.date()}, which de-identification writes: give the true date with --begins"
        )
    for number, one in enumerate(annotations, start=1):
        place, whose = f"{path.name}, annotation {number}", patient_id or code
        if isinstance(begins, time):
            found.leave_out(place, "the file has no start date: give it with --begins", whose)
            continue
        try:
            at = begins + timedelta(seconds=_of_recording(float(one.onset)))
            duration = None if one.duration is None else _long(float(one.duration))
        except ValueError as error:
            found.leave_out(place, str(error), whose)
            continue
        _keep(
            Annotation(place, vocabulary.kind_of(one.text), at=at, duration_s=duration, patient_id=whose),
            one.text,
            found,
        )


def _keep(annotation: Annotation, text: str, found: Annotations) -> None:
    found.understood.append(annotation)
    if annotation.kind == Kind.UNKNOWN:
        reason = f"the meaning of {text[:64]!r} is not known: name it under [words] of the mapping"
        found.left_out.append(LeftOut(annotation.place, reason))


def _of_recording(seconds: float) -> float:
    """Seconds from the beginning of a recording.

    Raises:
        ValueError: If no recording is that long.
    """
    if not abs(seconds) <= _LONGEST_S:
        raise ValueError(f"{seconds:.12g} seconds are longer than any recording")
    return seconds


def _long(seconds: float | None) -> float | None:
    """A duration; 0 marks a moment, as nothing does.

    Raises:
        ValueError: If it can't be one.
    """
    if seconds is not None and seconds < 0:
        raise ValueError("its duration is below 0 seconds")
    return _of_recording(seconds) if seconds else None


def _edf_begin(edf: Any) -> datetime | time:  # noqa: ANN401  edfio's Edf or Bdf
    try:
        return within_reach(datetime.combine(edf.startdate, edf.starttime))
    except edfio.AnonymizedDateError:
        return edf.starttime  # type: ignore[no-any-return]


def _edf_patient(edf: Any) -> str:  # noqa: ANN401
    try:
        code = str(edf.patient.code)
    except ValueError:  # not written as EDF+ wants it
        return ""
    return "" if code == "X" else code


def _read_bids(
    path: Path, table: Table, vocabulary: Vocabulary, patient_id: str, given: datetime | None, found: Annotations
) -> None:
    """`events.tsv`: times count from where the recording begins, which `dateTime` or the EDF beside it says."""
    levels = _levels(path)
    subject = _SUBJECT.search(path.as_posix())
    whose = patient_id or (subject[1] if subject else "")
    beside = given or _begin_beside(path)
    superseded = _superseded(table)
    if superseded:
        found.notes.append(f"{path.name}: {counted(len(superseded), 'event')} of which the same author said more later")
    for number, cells in table.rows:
        if number in superseded:
            continue
        place = f"{path.name}, line {number}"
        try:
            onset, duration = read_seconds(cells["onset"]), _long(read_seconds(cells["duration"]))
            if onset is None:
                raise ValueError("it has no onset")
            onset = _of_recording(onset)
            said = next((cells[name] for name in _TYPES if cells.get(name, "") not in _NOT_KNOWN), "")
            begins = _said_begin(cells.get("dateTime", "")) if given is None else given
            begins = begins or beside
            when: dict[str, Any] = {"offset_s": onset, "recording": cells.get("video_id", "")}
            if not when["recording"]:
                if begins is None:
                    raise ValueError("nothing dates the EEG that its time counts from: give its start with --begins")
                when = {"at": begins + timedelta(seconds=onset)}
            label = "" if cells.get("label", "") in _NOT_KNOWN else vocabulary.label_of(cells["label"])
            if when.get("recording"):
                what: dict[str, Any] = {"kind": vocabulary.kind_of(said), "label": label}
                if what["kind"] not in {Kind.SEIZURE, Kind.NOT_A_SEIZURE}:
                    tags = () if said == "label" else (str(read_cell("semiology", said)[0]),)  # type: ignore[index]
                    what |= {"kind": Kind.SIGN, "semiology": tags}
            else:
                what = {"kind": _bids_kind(said, levels, vocabulary), "label": label}
        except ValueError as error:
            found.leave_out(place, str(error), whose)
            continue
        _keep(Annotation(place, **what, **when, duration_s=duration, patient_id=whose), said, found)


def _superseded(table: Table) -> set[int]:
    """Lines with events of which their author has said something else later, as the review page keeps them."""
    lines: set[int] = set()
    newest: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    events = [
        (cells["at"], number, cells)
        for number, cells in table.rows
        if cells.get("trial_type") in _EVENTS and all(cells.get(name) for name in ("at", "author", "video_id"))
    ]
    for _, number, cells in sorted(events, key=lambda one: one[:2], reverse=True):
        try:
            begins = read_seconds(cells["onset"]) or 0.0
            ends = begins + (read_seconds(cells["duration"]) or 0.0)
        except ValueError:
            continue  # said where it is read
        later = newest[cells["video_id"], cells["author"]]
        if any(same_stretch(begins, ends, *other) for other in later):
            lines.add(number)
        else:
            later.append((begins, ends))
    return lines


def _said_begin(text: str) -> datetime | None:
    if text in _NOT_KNOWN:
        return None
    begins = read_moment(text)
    if isinstance(begins, time):
        raise ValueError("dateTime has no date")
    return begins


def _bids_kind(said: str, levels: Mapping[str, str], vocabulary: Vocabulary) -> Kind:
    """What an event is: SzCORE's types begin with `sz`, and the sidecar may say by HED that a level is a seizure."""
    tags = re.split(r"[\s,()/:]+", levels.get(said, "").casefold())
    if "seizure-pnes" in tags:  # whatever the level is called
        return Kind.UNKNOWN
    by_tag = any(tag in _HED_SEIZURES or tag.endswith("-epileptic-seizure") for tag in tags)
    return Kind.SEIZURE if by_tag or re.fullmatch(r"sz(_[a-z]+)*", said) else vocabulary.kind_of(said)


def _levels(path: Path) -> dict[str, str]:
    """HED tags of the levels of an event's type, from the JSON beside the table."""
    try:
        columns = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    found: dict[str, str] = {}
    for name in _TYPES:
        column = columns.get(name) if isinstance(columns, dict) else None
        hed = column.get("HED") if isinstance(column, dict) else None
        found |= {str(level): str(tags) for level, tags in hed.items()} if isinstance(hed, dict) else {}
    return found


def _begin_beside(path: Path) -> datetime | None:
    """When the EEG beside an events.tsv begins, by the header of its EDF or BDF."""
    for suffix, read in _EDF.items():
        beside = path.with_name(path.name.replace("_events.tsv", f"_eeg{suffix}"))
        if beside.is_file() and beside != path:
            try:
                begins = _edf_begin(read(beside))
            except Exception:  # noqa: BLE001, S112  damaged: then nothing says it
                continue
            return begins if isinstance(begins, datetime) else None
    return None


def _read_list(path: Path, table: Table, vocabulary: Vocabulary, patient_id: str, found: Annotations) -> None:
    """A table with a line an event; its columns are told by their names, or by the mapping."""
    by_name = {name.casefold(): name for name in table.columns}
    columns = {
        what: next((by_name[name.casefold()] for name in reversed(names) if name.casefold() in by_name), "")
        for what, names in vocabulary.columns.items()
    }
    if not columns["time"] or not columns["text"]:
        raise InvalidInput(
            f"{path.name} has no column that holds the {'time' if not columns['time'] else 'event'}: name it under "
            "[columns] of the mapping, as in examples/events.toml"
        )
    for number, cells in table.rows:
        place = f"{path.name}, line {number}"

        def cell(what: str, cells: Mapping[str, str] = cells) -> str:
            value = cells.get(columns[what], "") if columns[what] else ""
            return "" if value in _NOT_KNOWN else value

        whose = patient_id or cell("patient_id")
        try:
            _keep(_listed(place, cell, vocabulary, whose), cell("text"), found)
        except ValueError as error:
            found.leave_out(place, str(error), whose)


def _listed(place: str, cell: Callable[[str], str], vocabulary: Vocabulary, patient_id: str) -> Annotation:
    begin = _when(cell("date"), cell("time"))
    if begin is None:
        raise ValueError("it has no time")
    duration, until = _long(read_seconds(cell("duration"))), None
    if cell("end") and duration is None:
        end = _when("", cell("end"))
        if isinstance(begin, float) and isinstance(end, float):
            duration = end - begin
        elif isinstance(begin, float) or isinstance(end, float):
            raise ValueError("its begin and end are not written in the same way")
        until = end if not isinstance(end, float) else None
    at, offset = (None, begin) if isinstance(begin, float) else (begin, None)
    if duration is not None and duration <= 0:
        raise ValueError("it ends before it begins")
    tags = read_cell("semiology", cell("semiology")) if cell("semiology") else ()
    return Annotation(
        place,
        vocabulary.kind_of(cell("text")),
        at=at,
        until=until,
        offset_s=offset,
        recording=cell("recording"),
        duration_s=duration,
        patient_id=patient_id,
        label=vocabulary.label_of(cell("label")),
        semiology=tags,  # type: ignore[arg-type]
    )


def _when(date: str, clock: str) -> datetime | time | float | None:
    """A moment, or seconds of the recording."""
    if not clock:
        return None
    if date:
        return read_moment(f"{date} {clock}")
    if re.fullmatch(r"[+-]?[\d.,]+", clock):
        seconds = read_seconds(clock)
        return None if seconds is None else _of_recording(seconds)
    return read_moment(clock)
