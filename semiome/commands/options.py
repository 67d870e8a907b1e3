"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WorkspaceOption = Annotated[
    str, typer.Option("--workspace", "-w", help="Folder that holds everything, or s3://bucket/prefix.")
]
MediaRootOption = Annotated[
    Path | None, typer.Option(help="Folder that file_name is relative to; by default the manifest's own.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
ServerOption = Annotated[str, typer.Option("--server", help="Address of a running `semiome serve`.")]
DeviceOption = Annotated[str, typer.Option(help="cpu or cuda.")]
PrecisionOption = Annotated[str, typer.Option(help="fp32, bf16, or auto: what a short measurement finds.")]

DEFAULT_WORKSPACE = "workspace"
DEFAULT_SERVER = "127.0.0.1:50051"
