"""A table as spreadsheets and study databases save it: text to the cells of a header and of rows.

What can be meant in one way only is read: any of four separators, Excel's own `sep=` line, a byte order mark, UTF-16,
and columns at the end that hold nothing. What can't is refused with its cause.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from index.errors import InvalidInput, ManifestErrors
from index.words import counted

_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class Table:
    """The cells of a file, without blanks around them.

    Attributes:
        columns: names, in the order of the file.
        rows: of each row its number in the file, counted from 1, and its values by column.
        problems: what is wrong with its shape, row by row.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]
    problems: tuple[str, ...] = ()


def read_table(data: bytes, required: Sequence[str], what: str = "the manifest") -> Table:
    """Read a table whose header names some columns.

    Args:
        data: the file's bytes.
        required: columns that tell which separator is meant.
        what: it is called in messages.

    Raises:
        InvalidInput: If it is no text, empty, or no table; or there is no telling what separates its columns.
        ManifestErrors: If its header can't be read.
    """
    first, lines = _lines(_text(data, what))
    separator = first or _separator(lines, required)
    reader = csv.reader(io.StringIO(lines, newline=""), delimiter=separator, strict=True)
    cells: list[list[str]] = []
    try:
        cells += reader
    except csv.Error as error:
        raise InvalidInput(
            f"{what} is not a CSV: {error}, after row {len(cells)}; a value with a double quote in it must stand "
            "in double quotes, and that quote twice"
        ) from None
    if not cells:
        raise InvalidInput(f"{what} is empty: the first line names its columns ({', '.join(required)}, ...)")
    begins = 2 if first else 1
    numbered = [(number, [cell.strip() for cell in row]) for number, row in enumerate(cells, start=begins)]
    (_, header), *rows = [(number, row) for number, row in numbered if any(row) or number == begins]
    _check_header(header, rows)
    problems, read = [], []
    for number, row in rows:
        values = row[: len(header)] if not any(row[len(header) :]) else row
        if len(values) == len(header):
            read.append((number, {name: value for name, value in zip(header, values, strict=True) if name}))
        else:
            problems.append(_wrong_count(number, len(values), len(header), separator))
    return Table(tuple(name for name in header if name), tuple(read), tuple(problems))


def _text(data: bytes, what: str) -> str:
    encoding = "utf-16" if data.startswith(_UTF16) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        raise InvalidInput(
            f"{what} is not UTF-8: save it as `CSV UTF-8` (in Excel a file type of its own, in LibreOffice a "
            "choice of the export)"
        ) from None
    if "\0" in text:
        raise InvalidInput(f"{what} is not a text file: save the table as a CSV in UTF-8")
    return text


def _lines(text: str) -> tuple[str, str]:
    """The separator that a first line `sep=,` names, or empty; and the rest."""
    first, newline, rest = text.partition("\n")
    first = first.strip('\r "')
    if first.lower().startswith("sep=") and newline:
        separator = first[4:] or "\t"
        if separator not in _SEPARATORS:
            raise InvalidInput(
                f"the first line names {separator[:16]!r} as separator: expected a comma, semicolon or tab"
            )
        return separator, rest
    return "", text


def _separator(text: str, required: Sequence[str]) -> str:
    """What separates the columns, by the names of those that must be there."""
    header = text.partition("\n")[0]

    def named(separator: str) -> tuple[int, int]:
        names = {name.strip().strip('"').strip() for name in header.split(separator)}
        return len(names & set(required)), header.count(separator)

    return max(_SEPARATORS, key=named)


def _check_header(header: Sequence[str], rows: Sequence[tuple[int, list[str]]]) -> None:
    problems = []
    for place, name in enumerate(header):
        filled = [number for number, row in rows if place < len(row) and row[place]]
        if not name and filled:
            problems.append(
                f"row 1: column {place + 1} has no name, but row {filled[0]} has a value there: name it, or clear it"
            )
    for name in sorted({name for name in header if name and header.count(name) > 1}):
        problems.append(f"row 1: column {name} stands there twice")
    if problems:
        raise ManifestErrors(problems)


def _wrong_count(number: int, actual: int, expected: int, separator: str) -> str:
    advice = (
        f"a value that holds a {_SEPARATORS[separator]} must stand in double quotes"
        if actual > expected
        else "give an empty value for each column that has none"
    )
    return f"row {number}: {counted(actual, 'value')}, expected {expected}, one for each column: {advice}"
