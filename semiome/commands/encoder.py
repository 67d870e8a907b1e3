"""`semiome encoder`: where a workspace's weights come from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semiome.commands.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption
from semiome.console import Screen

if TYPE_CHECKING:
    from encoder.weights import Encoder

app = typer.Typer(help="The encoder: import weights, make untrained ones, list.", no_args_is_help=True)


@app.command("import")
def import_(
    source: Annotated[
        Path, typer.Argument(help="Original .pyth/.pth checkpoint, or a folder of transformers weights.")
    ],
    heads: Annotated[
        int | None, typer.Option(help="Attention heads of a .pyth file that is not 64 wide a head.")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Bring weights into the workspace and use them from now on."""
    from encoder.weights import import_pyth, load_encoder

    encoder = load_encoder(source) if source.is_dir() else import_pyth(source, heads)
    screen = Screen(as_json=as_json)
    _install(encoder, workspace, screen)
    screen.warn("weights trained on Kinetics-400 by the TimeSformer authors are CC-BY-NC-4.0: no commercial use")


@app.command()
def init(
    preset: Annotated[str, typer.Option(help="timesformer-l, timesformer-b or timesformer-demo.")] = "timesformer-demo",
    seed: Annotated[int, typer.Option(help="Of the random weights.")] = 0,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Make an untrained encoder, to try the way or to pretrain."""
    from encoder.timesformer import preset as architecture
    from encoder.weights import new_encoder

    screen = Screen(as_json=as_json)
    _install(new_encoder(architecture(preset), seed), workspace, screen)
    screen.warn("these weights are random: neighbours and verdicts will mean nothing")


@app.command("list")
def list_(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Encoders of this workspace; the one in use is marked."""
    from index.workspace import Workspace, current

    folder = Workspace(workspace).encoders
    in_use = current(folder)
    names = sorted(path.name for path in folder.glob("*") if path.is_dir())
    screen = Screen(as_json=as_json)
    rows = [(name, "in use" if name == in_use else "") for name in names]
    screen.result({"encoders": names, "encoder_id": in_use}, lambda: screen.table("Encoders", ("encoder", ""), rows))


def _install(encoder: Encoder, workspace: Path, screen: Screen) -> None:
    from encoder.weights import install_encoder
    from index.workspace import Workspace

    install_encoder(encoder, Workspace(workspace).encoders)
    config = encoder.model.config
    values = {
        "encoder_id": encoder.encoder_id,
        "origin": encoder.origin,
        "trained": encoder.trained,
        "num_frames": config.num_frames,
        "image_size": config.image_size,
        "parameters": sum(parameter.numel() for parameter in encoder.model.parameters()),
    }
    screen.result(
        values,
        lambda: screen.say(
            f"encoder {encoder.encoder_id} ({config.num_frames} frames of {config.image_size} x {config.image_size}, "
            f"{values['parameters']:,} parameters) is in use: {encoder.origin}"
        ),
    )
