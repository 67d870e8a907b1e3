"""protoc as this repository runs it: which files it reads, and what else they may import."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def sources(root: Path = ROOT) -> list[Path]:
    """The `.proto` files below `root`, by name."""
    return sorted((root / "protos").glob("*.proto"))


def run_protoc(*outputs: str, root: Path = ROOT) -> None:
    """Give all `.proto` files to protoc.

    Args:
        outputs: what protoc is to write, as its command line has it.
        root: the folder that holds `protos`.

    Raises:
        SystemExit: If protoc refused them; it has said why.
    """
    from google.rpc import status_pb2
    from grpc_tools import protoc

    well_known = resources.files("grpc_tools") / "_proto"
    googleapis = Path(status_pb2.__file__).parents[2]
    names = [str(path.relative_to(root)) for path in sources(root)]
    code = protoc.main(["protoc", f"-I{root}", f"-I{well_known}", f"-I{googleapis}", *outputs, *names])
    if code != 0:
        raise SystemExit(f"protoc failed with {code}")


def write_image(target: Path, *, root: Path = ROOT, comments: bool = True) -> None:
    """Write what the `.proto` files describe, and what they import, as one serialised `FileDescriptorSet`.

    Args:
        target: the file to write.
        root: the folder that holds `protos`.
        comments: with comments and line numbers, which make most of its size.
    """
    also = ("--include_source_info",) if comments else ()
    run_protoc("--include_imports", *also, f"--descriptor_set_out={target}", root=root)
