"""Hold the `.proto` files to `buf.yaml`, and to the last release: what it served must go on to be understood.

Run from the repository root: `python -m protos.lint [--accept]`. With `--accept` the API as it is now becomes the one
that later changes are compared with, which is for a release.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from protos.compiler import ROOT, write_image

BASELINE = ROOT / "protos" / "baseline.binpb"
"""The API of the last release."""
_BINARIES = ROOT / ".venv" / "node" / "node_modules" / ".bin"


def buf() -> str:
    """Where buf lies: as `make` installs it, else on the path.

    Raises:
        SystemExit: If it lies nowhere.
    """
    found = shutil.which("buf", path=os.pathsep.join((str(_BINARIES), os.environ.get("PATH", ""))))
    if found is None:
        raise SystemExit("buf is not installed: run `make .venv/node`")
    return found


def complaints(root: Path = ROOT, baseline: Path = BASELINE) -> list[str]:
    """What is wrong with the `.proto` files, one sentence each; empty when nothing is.

    Args:
        root: the folder that holds `protos`.
        baseline: the image that must stay compatible.

    Raises:
        SystemExit: If protoc or buf could not do their work.
    """
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "api.binpb"
        write_image(image, root=root)
        return _ask("lint", image) + _ask("breaking", image, "--against", str(baseline), "--exclude-imports")


def _ask(command: str, image: Path, *more: str) -> list[str]:
    """What buf says of our files in the image: Google's own are in there too and are not judged."""
    ours = ("--config", str(ROOT / "buf.yaml"), "--path", "protos")
    path = os.pathsep.join(
        (str(Path(sys.executable).parent), os.environ.get("PATH", ""))
    )  # Node, which buf starts with
    done = subprocess.run(  # noqa: S603
        [buf(), command, str(image), *more, *ours],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": path},
    )
    if done.returncode not in {0, 100}:  # 100: it worked, and found something
        raise SystemExit(f"buf {command} failed with {done.returncode}: {done.stderr.strip()}")
    return [f"{command}: {line}" for line in done.stdout.splitlines()]


def main() -> None:
    """Check, or take the API as it is for the baseline."""
    if "--accept" in sys.argv[1:]:
        write_image(BASELINE, comments=False)
        return
    if found := complaints():
        raise SystemExit("\n".join(found))


if __name__ == "__main__":
    main()
