"""Options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from index.workspace import Workspace
    from semiome.console import Screen

WorkspaceOption = Annotated[
    str, typer.Option("--workspace", "-w", help="Folder that holds everything, or s3://bucket/prefix.")
]
MediaRootOption = Annotated[
    Path | None, typer.Option(help="Folder that file_name is relative to; by default the manifest's own.")
]
FromOnsetOption = Annotated[
    float | None,
    typer.Option(
        "--from-onset",
        help="Seconds from the onset that count, of seizures whose onset is known; default: all of the seizure.",
        min=1,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
ServerOption = Annotated[
    str, typer.Option("--server", envvar="SEMIOME_SERVER", help="Address of a running `semiome serve`.")
]
CaOption = Annotated[
    Path | None, typer.Option("--ca", envvar="SEMIOME_CA", help="CA certificate of the server, PEM; enables TLS.")
]
TokenOption = Annotated[
    Path | None, typer.Option("--token-file", envvar="SEMIOME_TOKEN_FILE", help="File with the token to sign in with.")
]
CertificateOption = Annotated[
    Path | None, typer.Option("--certificate", envvar="SEMIOME_CERTIFICATE", help="Your own certificate, PEM.")
]
KeyOption = Annotated[Path | None, typer.Option("--key", envvar="SEMIOME_KEY", help="Its private key, PEM.")]
DeviceOption = Annotated[str, typer.Option(help="cpu or cuda.")]
LeastSandboxOption = Annotated[
    Literal["limits", "files", "calls", "full"],
    typer.Option(envvar="SEMIOME_LEAST_SANDBOX", help="Lowest sandbox level at which videos may be decoded."),
]
EncoderOption = Annotated[
    str | None, typer.Option(help="Id of the encoder whose clips are used; by default the one in use.")
]

DEFAULT_WORKSPACE = "workspace"
DEFAULT_SERVER = "127.0.0.1:50051"


def ask_for_sandbox(least: str) -> None:
    """Set the lowest sandbox level of every decoder of this process, and of those that it starts."""
    os.environ["SEMIOME_LEAST_SANDBOX"] = least


def encoder_in_use(workspace: Workspace, encoder_id: str | None = None) -> str:
    """The encoder that is named, or else the one in use; what its kind means is said on stderr.

    Raises:
        StateError: If there is none.
    """
    from encoder.model.kind import stored_kind, what_it_means
    from index.errors import StateError
    from index.workspace import current
    from semiome.console import Screen

    chosen = encoder_id or current(workspace.encoders)
    if chosen is None:
        raise StateError("this workspace has no encoder yet: run `semiome encode` first")
    if says := what_it_means(stored_kind(workspace.encoders, chosen)):
        Screen(as_json=True).warn(says)
    return chosen


def warn_of_another_account(workspace: Workspace, screen: Screen) -> None:
    """Say where the account that owns a workspace could not read what this command writes for its own account alone."""
    from contextlib import suppress

    with suppress(OSError):
        if not workspace.bucket and workspace.store.stat().st_uid != os.geteuid():
            screen.warn(
                "another account owns this workspace, and can't read what this one writes: run this as that account, "
                "or `chown -R` the workspace afterwards"
            )
