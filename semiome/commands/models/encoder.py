"""`semiome encoder`: where a workspace's weights come from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semiome.console import Screen
from semiome.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from encoder.model.identity import Encoder
    from encoder.switch import Switched

app = typer.Typer(help="The encoder: import weights, make untrained ones, list.", no_args_is_help=True)


@app.command("import")
def import_(
    source: Annotated[
        str,
        typer.Argument(
            help="Original .pyth/.pth checkpoint; a folder of transformers weights (TimeSformer, VideoMAE, ViViT, "
            "V-JEPA 2, X-CLIP); or `shipped`: the small encoder that comes with Semiome and knows simulated actions."
        ),
    ],
    heads: Annotated[
        int | None, typer.Option(help="Attention heads of a .pyth file that is not 64 wide a head.")
    ] = None,
    pooling: Annotated[
        str | None,
        typer.Option(
            help="Of a backbone other than TimeSformer, `cls` or `mean` of its tokens; by default its kind's."
        ),
    ] = None,
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Bring weights into the workspace and use them from now on."""
    from encoder.model.folder import load_encoder
    from encoder.model.kind import what_it_means
    from encoder.model.original import import_pyth
    from index.errors import InvalidInput
    from semiome.shipped import shipped_folder

    path = shipped_folder() if source == "shipped" else Path(source)
    if path.is_dir():
        if heads is not None:
            raise InvalidInput("--heads is for .pyth files: the config of a folder has its own number", field="heads")
        encoder = load_encoder(path, pooling)
    else:
        if pooling is not None:
            raise InvalidInput("--pooling is for folders of other backbones than TimeSformer", field="pooling")
        encoder = import_pyth(path, heads)
    screen = Screen(as_json=as_json)
    _install(encoder, address, screen)
    if encoder.kind == "imported" and encoder.model.kind == "timesformer":
        screen.warn("weights trained on Kinetics-400 by the TimeSformer authors are CC-BY-NC-4.0: no commercial use")
    elif says := what_it_means(encoder.kind):
        screen.warn(says)


@app.command()
def init(
    preset: Annotated[str, typer.Option(help="timesformer-l, timesformer-b or timesformer-demo.")] = "timesformer-demo",
    seed: Annotated[int, typer.Option(min=0, help="Of the random weights.")] = 0,
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Make an untrained encoder, to try out the workflow or to pretrain."""
    from encoder.model.architecture import preset as architecture
    from encoder.model.identity import new_encoder

    screen = Screen(as_json=as_json)
    _install(new_encoder(architecture(preset), seed), address, screen)
    screen.warn("these weights are random: neighbours and verdicts will mean nothing")


@app.command()
def crop(
    crop_detector: Annotated[
        str,
        typer.Option(help="Folder of a transformers object detector that knows beds; maskrcnn; or simulated."),
    ],
    weights: Annotated[
        Path | None, typer.Option(help="With maskrcnn: torchvision's weights file; default: torchvision's cache.")
    ] = None,
    confidence: Annotated[float, typer.Option(help="Lowest score of a detection that counts as a bed, 0 to 1.")] = 0.5,
    margin: Annotated[float, typer.Option(help="Added on each side, as a share of the bed's size.")] = 0.1,
    no_bed: Annotated[
        str, typer.Option(help="A video without a bed: refuse it, whole picture, or the last box of its camera.")
    ] = "refuse",
    encoder: Annotated[str | None, typer.Option(help="Encoder id; by default the one in use.")] = None,
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Let an encoder crop each video to the bed in its first picture; it becomes another encoder, in use from now on.

    A fixed crop in the manifest goes before what is found. `semiome beds` shows what would be found.
    """
    from encoder.bed.crop import CropPolicy
    from encoder.bed.detector import detector_id, load_detector, prepared_detector
    from encoder.model.folder import current_encoder
    from encoder.model.identity import with_crop
    from index.workspace import Workspace
    from semiome.shipped import shipped_bed_detector

    chosen = current_encoder(Workspace.at(address).encoders, encoder)
    screen = Screen(as_json=as_json)
    source = str(shipped_bed_detector()) if crop_detector == "simulated" else crop_detector
    if crop_detector == "simulated":
        screen.warn("this detector knows simulated rooms only: it is for the demo, not for a hospital")
    with prepared_detector(source, weights) as folder:
        load_detector(folder, confidence)
        policy = CropPolicy(detector_id(folder), confidence, margin, no_bed)
        _install(with_crop(chosen, policy, folder), address, screen)


@app.command()
def precision(
    wanted: Annotated[str, typer.Argument(metavar="fp32|bf16", help="Precision of the model's products.")],
    encoder: Annotated[str | None, typer.Option(help="Encoder id; by default the one in use.")] = None,
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Let an encoder compute in another precision; it becomes another encoder, in use from now on.

    bf16 is faster on processors and GPUs that have units for it. About one in fifty of the ten nearest clips differs,
    so the vectors of the two are never compared.
    """
    from encoder.model.folder import current_encoder
    from encoder.model.identity import with_precision
    from index.workspace import Workspace

    chosen = current_encoder(Workspace.at(address).encoders, encoder)
    _install(with_precision(chosen, wanted), address, Screen(as_json=as_json))


@app.command()
def use(
    encoder: Annotated[str, typer.Argument(help="See `semiome encoder list`.")],
    force: Annotated[bool, typer.Option("--force", help="Even if it has not embedded all clips.")] = False,
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Use another encoder whose clips are stored and indexed: its index and its head with it."""
    from encoder.switch import switch
    from index.workspace import Workspace

    _say_switched(switch(Workspace.at(address), encoder, force=force), Screen(as_json=as_json))


@app.command()
def rollback(address: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Use the encoder that was in use before, with its index and its head; a second time undoes it."""
    from encoder.switch import switch_back
    from index.workspace import Workspace

    _say_switched(switch_back(Workspace.at(address)), Screen(as_json=as_json))


def _say_switched(done: Switched, screen: Screen) -> None:
    if not done.head_id:
        screen.warn("no head of this encoder is trained: run `semiome head train`, until then nothing is classified")
    if done.missing_clips:
        screen.warn(f"{done.missing_clips} clips of encoder {done.left_behind} are not embedded by this one")
    screen.result(
        asdict(done),
        lambda: screen.say(
            f"encoder {done.encoder_id} is in use, with generation {done.generation} and head "
            f"{done.head_id or 'none'}; `semiome encoder rollback` goes back to {done.left_behind or 'none'}"
        ),
    )


@app.command("list")
def list_(address: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Encoders of this workspace: what each is and where its weights come from; the one in use is marked."""
    from encoder.model.kind import stored_backbone, stored_kind
    from index.workspace import Workspace, current

    folder = Workspace.at(address).encoders
    in_use = current(folder)
    names = sorted(path.name for path in folder.glob("*") if path.is_dir())
    screen = Screen(as_json=as_json)
    kinds = {name: stored_kind(folder, name) for name in names}
    backbones = {name: stored_backbone(folder, name) for name in names}
    rows = [(name, backbones[name], kind, "in use" if name == in_use else "") for name, kind in kinds.items()]
    screen.result(
        {"encoders": names, "encoder_id": in_use, "kinds": kinds, "backbones": backbones},
        lambda: screen.table("Encoders", ("encoder", "backbone", "kind", ""), rows),
    )


def _install(encoder: Encoder, address: str, screen: Screen) -> None:
    from encoder.model.folder import install_encoder
    from index.workspace import Workspace

    install_encoder(encoder, Workspace.at(address).encoders)
    config = encoder.model.config
    values = {
        "encoder_id": encoder.encoder_id,
        "origin": encoder.origin,
        "trained": encoder.trained,
        "kind": encoder.kind,
        "num_frames": config.num_frames,
        "image_size": config.image_size,
        "precision": encoder.precision,
        "crop": None if encoder.crop is None else asdict(encoder.crop),
        "parameters": sum(parameter.numel() for parameter in encoder.model.parameters()),
    }
    screen.result(
        values,
        lambda: screen.say(
            f"encoder {encoder.encoder_id} ({config.num_frames} frames of {config.image_size} x {config.image_size}, "
            f"{values['parameters']:,} parameters{', cropped to the bed' if encoder.crop else ''}) is in use: "
            f"{encoder.origin}"
        ),
    )
