"""Regenerate the committed modules from the `.proto` files, or check that they are what protoc would write.

Run from the repository root: `python -m protos.generate [--check]`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from protos.compiler import ROOT, run_protoc


def generate(target: Path) -> None:
    """Write all generated modules below `target`, as protoc names them."""
    run_protoc(*(f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python")))
    for path in (target / "protos").glob("*_pb2_grpc.py"):
        if "service " not in (ROOT / "protos" / path.name.replace("_pb2_grpc.py", ".proto")).read_text():
            path.unlink()  # protoc writes an empty one for a file without services


def differing(target: Path) -> list[str]:
    """Generated files below `target` that are not the committed ones, and committed ones it lacks."""
    fresh = {path.name: path.read_bytes() for path in (target / "protos").iterdir()}
    committed = {path.name: path.read_bytes() for path in (ROOT / "protos").glob("*_pb2*")}
    return sorted(name for name in fresh | committed if fresh.get(name) != committed.get(name))


def main() -> None:
    """Write, or check."""
    if "--check" not in sys.argv[1:]:
        generate(ROOT)
        return
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        if names := differing(Path(folder)):
            raise SystemExit(f"generated modules differ from the .proto files ({', '.join(names)}): run `make protos`")


if __name__ == "__main__":
    main()
