"""Looks for an id in a folder, on its own terms: it shares no code with what erases.

    python witness.py FOLDER ID [ID OF ANOTHER ...]

prints a line for each place where the id stands as a word that is no part of another's id.
"""

import html
import re
import sqlite3
import sys
import unicodedata
from pathlib import Path

import lance
import pyarrow.ipc
import pyarrow.parquet


def said_in(path):
    """Every way in which the content of a file can be read."""
    if path.suffix == ".parquet":
        return [repr(pyarrow.parquet.read_table(path).to_pylist())]
    if path.suffix == ".arrow":
        return [repr(pyarrow.ipc.open_file(path).read_all().to_pylist())]
    if path.suffix == ".lance":
        table = lance.dataset(str(path))
        versions = (table.checkout_version(old["version"]).to_table().to_pylist() for old in table.versions())
        # What is absent is no text, though Python writes it as one.
        return [repr([{k: v for k, v in row.items() if v is not None} for row in rows]) for rows in versions]
    if path.suffix == ".sqlite":
        database = sqlite3.connect(path)
        columns = "video_id, patient_id, query_video_id, query_patient_id, note"  # times hold numbers
        return [repr(row) for row in database.execute(f"select {columns} from feedback")]
    data = path.read_bytes()
    wide = data.startswith(b"\xff\xfe")
    texts = [] if wide else [data.decode("latin-1")]
    for encoding in ("utf-16",) if wide else ("utf-8",):
        try:
            texts.append(data.decode(encoding))
        except UnicodeDecodeError:
            continue
    escaped = re.compile(r"\\u([0-9a-fA-F]{4})")
    return [*texts, *map(html.unescape, texts), *(escaped.sub(lambda c: chr(int(c[1], 16)), text) for text in texts)]


def plain(text):
    return unicodedata.normalize("NFKC", text).casefold()


def finds(folder, name, others):
    whole = re.compile(f"(?<![a-z0-9]){re.escape(plain(name))}(?![a-z0-9])")
    longer = sorted((plain(other) for other in others if plain(name) in plain(other)), key=len, reverse=True)
    for path in sorted(folder.rglob("*")):
        if any(parent.suffix == ".lance" for parent in path.parents):
            continue  # rows stand end to end in these files: the table is read as a whole
        for text in [path.name, *(said_in(path) if path.is_file() or path.suffix == ".lance" else ())]:
            small = plain(text)
            for other in longer:
                small = re.sub(f"(?<![a-z0-9]){re.escape(other)}(?![a-z0-9])", "~", small)
            if whole.search(small):
                yield f"{path.relative_to(folder)}: {small[:120]!r}"
                break


if __name__ == "__main__":
    sys.stdout.writelines(f"{found}\n" for found in finds(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
