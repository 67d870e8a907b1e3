"""Write the lock files again: exact versions of what is installed, with the hashes of all their files.

`requirements.lock` is for developers and tests, `deploy/requirements.lock` for what runs. torch alone has no hash:
it comes in builds for several kinds of processors, each from another place, under one version.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent


def needed(requirements: list[str]) -> set[str]:
    """Canonical names of what these requirements install, themselves among it, by what is installed here."""
    found: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(one) for one in requirements]
    while waiting:
        wanted = waiting.pop()
        name, extras = canonicalize_name(wanted.name), frozenset(wanted.extras)
        if (name, extras) in found:
            continue
        found.add((name, extras))
        for line in distribution(name).requires or ():
            further = Requirement(line)
            chosen = ({"extra": extra} for extra in (*extras, ""))
            if further.marker is None or any(further.marker.evaluate(one) for one in chosen):
                waiting.append(further)
    return {name for name, _ in found}


def main() -> None:
    """Write both."""
    installed = subprocess.run(
        [sys.executable, "-m", "pip", "freeze", "--all", "--exclude-editable", "--exclude", "pip"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    pins = re.sub(r"\+cpu$", "", installed, flags=re.MULTILINE)
    torch = re.search(r"^torch==.*$", pins, re.MULTILINE)
    options = ["--no-deps", "--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url", "--quiet"]
    hashed = subprocess.run(  # noqa: S603  our own
        [  # noqa: S607  of the environment that `make lock` makes
            "uv",
            "pip",
            "compile",
            *options,
            "--python",
            sys.executable,
            "-",
        ],
        input="\n".join(line for line in pins.splitlines() if not line.startswith("torch==")),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    parts = re.split(r"^(?=\S)", hashed, flags=re.MULTILINE)
    entries = {canonicalize_name(part.split("==")[0]): part for part in parts if part}
    if torch is not None:
        entries["torch"] = f"{torch[0]}\n"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    shared = project["project"]["optional-dependencies"]["s3"]  # workspaces on object storage
    runs = needed([*project["project"]["dependencies"], *project["build-system"]["requires"], *shared])
    for path, names in ((ROOT / "requirements.lock", set(entries)), (ROOT / "deploy/requirements.lock", runs)):
        path.write_text("".join(entries[name] for name in sorted(names)), encoding="utf-8")


if __name__ == "__main__":
    main()
