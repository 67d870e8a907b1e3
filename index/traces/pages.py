"""HTML, SVG and XML without the patient: rows of tables, texts between tags, attributes, scripts."""

from __future__ import annotations

import html
import re

from index.traces.structured import Values

_PIECES = re.compile(
    r"(<!--(?:(?!<!--).)*?-->|<!\[CDATA\[(?:(?!<!\[CDATA).)*?\]\]>|<\?(?:(?!<\?).)*?\?>"
    r"|<script\b(?:(?!<script\b).)*?</script\s*>|<style\b(?:(?!<style\b).)*?</style\s*>"
    r"|<tr\b(?:(?!<tr\b).)*?</tr\s*>|<[^<>]*>)",
    re.S | re.I,
)
_ATTRIBUTE = re.compile(r"""(=\s*)("[^"]*"|'[^']*')""")


def page_without_patient(text: str, values: Values) -> str:
    """Rows of tables that name the patient alone go; elsewhere the text between two tags, or an attribute."""
    return "".join(_piece(piece, values) for piece in _PIECES.split(text) if piece)


def _piece(piece: str, values: Values) -> str:
    lower = piece[:9].lower()
    if lower.startswith("<tr") and lower[3:4] in (">", " ", "\t", "\n", "\r"):
        return _table_row(piece, values)
    if lower.startswith(("<script", "<style")):
        begin, end = piece.index(">") + 1, piece.rindex("<")
        return piece[:begin] + _cut(piece[begin:end], values) + piece[end:]
    if lower.startswith("<!--"):
        return f"<!--{_cut(piece[4:-3], values)}-->"
    if lower.startswith(("<![cdata[", "<?")):
        return _cut(piece, values)
    if piece.startswith("<"):
        return _cut(_ATTRIBUTE.sub(lambda found: _attribute(found, values), piece), values)
    said = html.unescape(piece)
    changed = values.text("", said)
    return piece if changed == said else html.escape(changed, quote=False)


def _cut(text: str, values: Values) -> str:
    """A part that is no prose: only the ids go."""
    return values.names.cut(text, [m for m in values.names.find(text) if values.counted(certain=m.certain)])


def _table_row(row: str, values: Values) -> str:
    """A row whose cells hold one of the patient's ids goes as a whole; a header row stays."""
    cells = re.findall(r"<t[dh]\b[^>]*>(.*?)</t[dh]\s*>", row, re.S | re.I)
    said = [html.unescape(re.sub("<[^>]*>", "", cell)).strip() for cell in cells]
    alone = not any(map(values.names.is_of_another, said)) and not any(map(values.names.name_others, said))
    if any(map(values.names.is_certain, said)) and alone and "rowspan" not in row.lower():
        values.tally.certain += 1
        return ""
    head = row.index(">") + 1
    return _cut(row[:head], values) + page_without_patient(row[head:], values)


def _attribute(found: re.Match[str], values: Values) -> str:
    said = html.unescape(found[2][1:-1])
    changed = values.text("", said)
    return found[0] if changed == said else f'{found[1]}"{html.escape(changed)}"'
