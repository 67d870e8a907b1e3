"""A pretraining run on disk: its configuration, its log, its checkpoints, and the encoder it ends with."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from encoder.model.architecture import PRESETS, preset
from encoder.model.backbone import Backbone
from encoder.model.folder import load_encoder
from encoder.model.identity import Encoder, identified, new_encoder
from encoder.model.original import import_pyth
from encoder.model.timesformer import TimeSformer
from index.errors import InvalidInput, StateError
from index.files.durable import write_text_atomically
from trainer.clips import TrainingClips
from trainer.judging.folds import check_leaks, patients_held_out
from trainer.judging.probes import Probes, embed_clips, probe
from trainer.pretraining.config import DTYPES, PretrainConfig
from trainer.pretraining.pretrain import StepLog, Watch, planned_batches, pretrain, trouble
from trainer.pretraining.ranks import Ranks

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_CONFIG, _LOG = "config.json", "log.jsonl"
_PROBED_AT_ONCE = 32
_DECISIVE = ("config", "encoder_id", "clips_sha256")
Config = TypeVar("Config", bound=BaseModel)


class RunConfig(BaseModel):
    """A pretraining run: which clips, which initial weights, how."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """Name of the run; its folder below `runs/`."""
    manifest: Path
    """CSV of the videos, relative to the configuration file."""
    frame_cache: Path | None = None
    """Folder of decoded frames, made when missing; by default frames are kept in memory."""
    encoder: str = "timesformer-l"
    """What to start from: an encoder folder or a .pyth checkpoint, relative to the configuration file, or a preset with
    random weights."""
    hold_out_split: str = Field(default="test", validation_alias=AliasChoices("hold_out_split", "probe_split"))
    """Patients with a video of this split are not trained on; each epoch is probed on them."""
    device: str = "cpu"
    """cpu or cuda."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of each process; torch's choice by default."""
    pretrain: PretrainConfig = PretrainConfig()
    """The recipe."""


def read_config(path: Path, kind: type[Config]) -> Config:
    """Read a TOML file as a configuration; paths in it are relative to its folder.

    Raises:
        InvalidInput: If it can't be read, or something in it is wrong; the message names all that is.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(
            f"the configuration can't be read ({error.strerror}): give the path of a TOML file"
        ) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"the configuration is not TOML: {error}") from None
    try:
        return kind(**values)
    except ValidationError as error:
        raise InvalidInput("\n".join(["the configuration is wrong:", *map(_explained, error.errors())])) from None


_OF_A_TYPE = re.compile(r"^(constrained-|literal\[|function-)")
"""What pydantic puts into a place for each kind of value that is possible there."""


def _explained(problem: Any) -> str:  # noqa: ANN401  pydantic's own
    place = ".".join(str(part) for part in problem["loc"] if not _OF_A_TYPE.search(str(part))) or "all of it"
    if problem["type"] == "extra_forbidden":
        return f"  {place}: unknown key"
    if problem["type"] == "missing":
        return f"  {place}: missing"
    if problem["type"] == "value_error":  # in our own words
        return f"  {place}: {problem['ctx']['error']}"
    said = problem["msg"][:1].lower() + problem["msg"][1:]
    return f"  {place}: {said}, got {problem['input']!r}"


def initial_encoder(named: str, folder: Path, seed: int) -> Encoder:
    """The encoder a run starts from: a preset with random weights, a folder, or a checkpoint of the original code."""
    if named in PRESETS:
        return new_encoder(preset(named), seed)
    if (folder / named).is_file():
        return import_pyth(folder / named)
    if not (folder / named).is_dir():
        raise InvalidInput(
            f"expected an encoder folder, a .pyth checkpoint or a preset of {', '.join(PRESETS)}, got {named!r}"
        )
    return load_encoder(folder / named)


def run_pretraining(
    start: Encoder,
    clips: TrainingClips,
    config: RunConfig,
    folder: Path,
    ranks: Ranks,
    on_step: Callable[[StepLog], None] = lambda log: None,
    warn: Callable[[str], None] = lambda text: None,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    tensorboard: bool = False,
) -> Encoder:
    """Pretrain, or go on where an earlier call of the same configuration stopped.

    Args:
        start: initial weights.
        clips: all clips; those of patients with a video of `config.hold_out_split` serve as probes only.
        config: the run's settings.
        folder: the run's own; made.
        ranks: this process among the others.
        on_step: called after each step.
        warn: told of a shortcut or a collapse, in words.
        should_stop: asked after each step.
        tensorboard: also write the log for TensorBoard, into the run's folder.

    Raises:
        StateError: If the folder holds a run of another configuration, other weights or other clips.
        InvalidInput: If the ranks disagree, or the clips don't allow it.
        Interrupted: If it was asked to stop; the last checkpoint has all.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    ranks.agree("the manifest and its clips", clips.digest())
    ranks.agree("the configuration", config.model_dump_json())
    if ranks.rank == 0:
        _open(folder, config, start, clips)
    training, probed = split_for_probes(clips, config.hold_out_split)
    steps = len(planned_batches(training, config.pretrain, ranks.world_size))
    log = _Log(folder / _LOG, _board(folder) if tensorboard and ranks.rank == 0 else None, writes=ranks.rank == 0)
    recent: list[StepLog] = []

    def stepped(step: StepLog) -> None:
        recent.append(step)
        log.write(asdict(step))
        on_step(step)

    def probe_epoch(epoch: int, model: TimeSformer) -> None:
        probes = None
        if len(probed.clips) > 1:
            probes = probe(embedded_by_all(model, probed, config.pretrain, ranks), probed.clips)
        log.write({"epoch": epoch, "step": recent[-1].step, "probes": None if probes is None else asdict(probes)})
        if (said := trouble(recent, steps, config.pretrain)) and ranks.rank == 0:
            warn(f"epoch {epoch + 1}: {said}")
        if probes is not None and ranks.rank == 0 and (said := shortcut(probes)):
            warn(f"epoch {epoch + 1}: {said}")

    model = start.trainable.to(ranks.device)
    watch = Watch(
        *(log.cut, stepped, probe_epoch),
        should_stop=should_stop,
        on_smaller=lambda fits: warn(
            f"out of memory: at_once is {fits} from now on, as it would be with at_once = {fits} in the configuration"
        ),
    )
    pretrain(model, training, config.pretrain, ranks, folder / "checkpoints", watch)
    patients = len({clip.patient_id for clip in training.clips})
    origin = (
        f"{start.origin}; pretrained ({config.pretrain.levels}) on {len(training.clips)} clips of {patients} patients"
    )
    return identified(model.cpu(), origin, trained=True)


def embedded_by_all(
    model: TimeSformer | Backbone, clips: TrainingClips, recipe: PretrainConfig, ranks: Ranks
) -> NDArray[np.float32]:
    """Embeddings of clips, each rank making a part."""
    parts = np.array_split(np.arange(len(clips.clips)), ranks.world_size)
    mine = parts[ranks.rank].tolist()
    at_once = min(recipe.at_once, _PROBED_AT_ONCE)
    vectors = embed_clips(model, clips.frames, ranks.device, at_once, DTYPES[recipe.precision], mine)
    gathered = ranks.gather(torch.from_numpy(vectors).to(ranks.device), [len(part) for part in parts])
    found: NDArray[np.float32] = gathered.cpu().numpy()
    return found


def split_for_probes(clips: TrainingClips, hold_out_split: str) -> tuple[TrainingClips, TrainingClips]:
    """Clips to train on, and clips of the patients who have a video of the split that is held out."""
    kept_out = patients_held_out(((clip.patient_id, clip.split) for clip in clips.clips), hold_out_split)
    if not kept_out:
        return clips, clips.of(lambda clip: False)
    training, probed = (
        clips.of(lambda clip: clip.patient_id not in kept_out),
        clips.of(lambda clip: clip.patient_id in kept_out),
    )
    check_leaks(training.clips, probed.clips)
    return training, probed


def shortcut(probes: Probes) -> str:
    """What the probes say of a shortcut, in words; empty when they look well."""
    if probes.camera is None or probes.label is None:
        return ""
    camera, label = (share.found - share.chance for share in (probes.camera, probes.label))
    if camera > 0.3 and camera > 2 * label:
        return (
            f"shortcut: the nearest clip of another patient is from the same camera in {probes.camera.found:.0%} "
            f"(by chance {probes.camera.chance:.0%}); augment more, or take negatives from the same camera"
        )
    return ""


def read_log(folder: Path) -> list[dict[str, Any]]:
    """All lines of a run's log."""
    path = folder / _LOG
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if _whole(line)]


class _Log:
    """One JSON object a line; a resumed run takes back what came after its checkpoint."""

    def __init__(self, path: Path, board: SummaryWriter | None, *, writes: bool) -> None:
        self._path, self._board, self._writes = path, board, writes

    def cut(self, step: int) -> None:
        if not self._writes:
            return
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        kept = [line for line in lines if _whole(line) and json.loads(line)["step"] <= step]
        write_text_atomically(self._path, "".join(line + "\n" for line in kept))

    def write(self, values: dict[str, Any]) -> None:
        if self._writes:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(values) + "\n")
        if self._board is not None:
            for name, value in _scalars(values):
                self._board.add_scalar(name, value, values["step"])
            self._board.flush()


def _board(folder: Path) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise StateError("TensorBoard is not installed: pip install 'semiome[train]'") from None
    return SummaryWriter(str(folder / "tensorboard"))


def _scalars(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name not in ("step", "epoch"):
            yield f"{prefix}{name}", float(value)


def _whole(line: str) -> bool:
    """A killed process may leave half a line at the end."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _open(folder: Path, config: RunConfig, start: Encoder, clips: TrainingClips) -> None:
    described = {
        "config": json.loads(config.model_dump_json()),
        "encoder_id": start.encoder_id,
        "clips_sha256": clips.digest(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _CONFIG
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        # An older version's lacks what has been added since, and may call things otherwise.
        before["config"] = json.loads(RunConfig(**before["config"]).model_dump_json())
        if changed := [key for key in _DECISIVE if described[key] != before.get(key)]:
            named = ", ".join(_named(key, before, described) for key in changed)
            raise StateError(f"run {config.name} was begun with another {named}: give this one another name")
    write_text_atomically(path, json.dumps(described, indent=2) + "\n")


def _named(key: str, before: dict[str, Any], now: dict[str, Any]) -> str:
    if key != "config":
        return key
    old, new = (_flat(values["config"]) for values in (before, now))
    return "configuration (" + ", ".join(sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))) + ")"


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    inner = {f"pretrain.{key}": value for key, value in values.get("pretrain", {}).items()}
    return {**{key: value for key, value in values.items() if key != "pretrain"}, **inner}
