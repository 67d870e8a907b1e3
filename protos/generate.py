"""Regenerate the committed modules from the `.proto` files, or check that they are what protoc would write.

Run from the repository root: `python -m protos.generate [--check]`.
"""

from __future__ import annotations

import sys
import tempfile
from importlib import resources
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def generate(target: Path) -> None:
    """Write all generated modules below `target`, as protoc names them."""
    from google.rpc import status_pb2
    from grpc_tools import protoc

    well_known = resources.files("grpc_tools") / "_proto"
    googleapis = Path(status_pb2.__file__).parents[2]
    sources = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "protos").glob("*.proto"))
    outputs = [f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python")]
    code = protoc.main(["protoc", f"-I{ROOT}", f"-I{well_known}", f"-I{googleapis}", *outputs, *sources])
    if code != 0:
        raise SystemExit(f"protoc failed with {code}")
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
