"""Find phrases in code and documents that are not plain English: `python -m tests.words`, part of `make check`.

The list is the table under "Words" in CONTRIBUTING.md. Tests, generated files and the changelog of earlier versions are
left alone.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SUFFIXES = {".py", ".md", ".proto", ".js", ".html", ".j2", ".yaml", ".service", ".timer", ".toml", ".conf", ".mjs"}
LEFT_ALONE = re.compile(r"^tests/|^docs/upgrading\.md$|_pb2|^CONTRIBUTING\.md$|^CHANGELOG\.md$|package-lock")
OPENINGS = re.compile(r'^\s*"""(Of|As|By|See) ')
"""How no docstring begins."""


def phrases(root=ROOT):
    """Each phrase with what to write instead, lower case."""
    table = (root / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n## Words\n")[2]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", table, re.MULTILINE)
    return {old.lower(): new for old, new in rows if old != "instead of"}


def found_in(text, wanted):
    """(line number, what is wrong) for each phrase, line by line; a phrase may be broken across two lines."""
    lines = text.splitlines()
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(phrase)}(?!\w)" for phrase in wanted), re.IGNORECASE)
    for number, line in enumerate(lines, 1):
        following = lines[number].lstrip(" #/*") if number < len(lines) else ""
        for match in pattern.finditer(f"{line} {following}"):
            if match.start() < len(line):
                phrase = match[0].lower()
                yield number, f"{match[0]!r}: write {wanted[phrase]}"
        if OPENINGS.match(line):
            yield number, "a docstring begins with a verb or with what is returned"
        if re.match(r"^ +[A-Z]\w+: (?!If )", line) and _raises(lines, number):
            yield number, "an entry under Raises begins with If"


def _raises(lines, number):
    """Whether a line is an entry under `Raises:`."""
    indent = len(lines[number - 1]) - len(lines[number - 1].lstrip())
    for line in reversed(lines[: number - 1]):
        if line.strip() and len(line) - len(line.lstrip()) < indent:
            return line.strip() == "Raises:"
    return False


def main():
    """Print what is found, and exit with status 1 if there is anything."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    paths = [Path(name) for name in listed if not LEFT_ALONE.search(name) and Path(name).suffix in SUFFIXES]
    wanted, count = phrases(), 0
    for path in paths:
        for number, wrong in found_in((ROOT / path).read_text(encoding="utf-8"), wanted):
            sys.stderr.write(f"{path}:{number}: {wrong}\n")
            count += 1
    if count:
        sys.exit(1)


if __name__ == "__main__":
    main()
