"""`semiome ablate`: the paper's Table I on one's own cohort, and a report that shows it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semiome.commands.models.frames import clips_of, with_beds
from semiome.console import Screen
from semiome.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from encoder.manifest import Manifest
    from encoder.model.identity import Encoder
    from index.workspace import Workspace
    from trainer.clips import TrainingClips
    from trainer.study.config import AblationConfig
    from trainer.study.estimate import Estimate
    from trainer.study.pretrained_encoders import StudyClips


def ablate(
    config: Annotated[Path, typer.Argument(help="TOML file; see examples/paper.toml.")],
    address: WorkspaceOption = DEFAULT_WORKSPACE,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Say what it would take, measured on this device, and do nothing.")
    ] = False,
    processes: Annotated[
        int, typer.Option(min=1, help="With --estimate: how many would share the work under torchrun.")
    ] = 1,
    decoders: Annotated[int | None, typer.Option(min=1, help="Videos decoded at once.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare four ways of pretraining, baselines, and models that learn nothing, on the same folds of one cohort.

    Pretraining and embeddings are kept in runs/<name> and not done again; what was interrupted goes on with the same
    command. On several GPUs or machines: torchrun --nproc-per-node 4 -m semiome ablate CONFIG.toml
    """
    from index.errors import InvalidInput
    from index.files.durable import write_text_atomically
    from index.processors import usable_cores
    from index.workspace import Workspace
    from trainer.backbones.baselines import backbone
    from trainer.frame_cache import read_references
    from trainer.pretraining.ranks import check_device, joined, launched_ranks
    from trainer.pretraining.run import initial_encoder, read_config
    from trainer.study.ablation import ablate
    from trainer.study.config import AblationConfig
    from trainer.study.pretrained_encoders import Reporter
    from trainer.study.report import as_html, as_text, check_map

    rank, world_size, local_rank = launched_ranks()
    screen = Screen(as_json=as_json, silent=rank > 0)
    settings = read_config(config, AblationConfig)
    check_map(settings.map)
    check_device(settings.device, settings.pretrain.precision)
    workspace = Workspace.at(address)
    start = initial_encoder(settings.encoder, config.parent, settings.seed)
    source = _Source(
        *(settings, config.parent, start, workspace, decoders or usable_cores(), screen),
        writes=local_rank == 0,
        shared=world_size > 1,
    )
    source.check_cohort()
    for baseline in settings.baselines:
        if baseline.weights is not None:
            backbone(baseline, config.parent)
    frozen = {Path(named).name: _frozen(named, config.parent) for named in settings.frozen}
    if estimate:
        if world_size > 1:
            raise InvalidInput("--estimate runs in one process: start it without torchrun, with --processes")
        found = source.estimate(processes)
        screen.result(_estimate_values(found), lambda: _show_estimate(found, screen))
        found.check()
        return
    clips = source.clips()
    references = {} if settings.frame_cache is None else read_references(config.parent / settings.frame_cache)
    folder = workspace.runs / settings.name
    with joined(settings.device) as ranks, screen.progress("Ablation") as progress:

        def step(what: str, done: int, total: int) -> None:
            progress(done, total, what)

        reporter = Reporter(step, screen.warn)
        study = ablate(clips, start, settings, folder, config.parent, ranks, references, reporter, frozen)
    if study is None:
        return
    text = as_text(study)
    write_text_atomically(folder / "table.txt", text)
    write_text_atomically(folder / "report.html", as_html(study))
    values = {**study.values(), "folder": str(folder), "report": str(folder / "report.html")}
    screen.result(values, lambda: screen.say(f"{text}\nReport: {folder / 'report.html'}"))


def _frozen(named: str, folder: Path) -> Encoder:
    from encoder.model.folder import load_encoder
    from index.errors import DamagedData, InvalidInput

    try:
        return load_encoder(folder / named)
    except (InvalidInput, DamagedData) as error:
        raise InvalidInput(f"frozen encoder {named}: {error}") from None


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a study's clips come from.

    Attributes:
        settings: the study's.
        folder: of its configuration.
        start: initial weights, whose frames are decoded.
        workspace: knows the beds of cameras.
        decoders: videos decoded at once.
        screen: for progress.
        writes: whether this process decodes; others wait for it.
        shared: whether there are others.
        counts: clips of each manifest, without frames, once they are counted.
    """

    settings: AblationConfig
    folder: Path
    start: Encoder
    workspace: Workspace
    decoders: int
    screen: Screen
    writes: bool
    shared: bool
    counts: dict[Path, TrainingClips] = field(default_factory=dict)

    def check_cohort(self) -> None:
        """Refuse, before anything is decoded, a study that the manifest does not allow."""
        from trainer.clips import TrainingClip
        from trainer.study.ablation import divided

        if self.settings.manifest is not None:
            rows = self._read(self.settings.manifest).rows
            divided([TrainingClip(r.video_id, r.patient_id, 0, r.label, r.split) for r in rows], self.settings)

    def clips(self) -> StudyClips:
        """Decode what is not in the frame cache yet, after a look at whether it fits."""
        from index.errors import InvalidInput
        from trainer.frame_cache import read_cache
        from trainer.study.estimate import check_disk
        from trainer.study.pretrained_encoders import StudyClips

        if self.settings.manifest is None:
            if self.settings.frame_cache is None:
                raise InvalidInput("expected a manifest or a frame_cache in the configuration, got neither")
            clips = read_cache(self.folder / self.settings.frame_cache)
            frames, size = self._shape
            if clips.frames.shape[1:3] != (frames, size):
                raise InvalidInput(
                    f"expected a frame cache of {frames} frames of {size} pixels, got one of {clips.frames.shape[1:3]}"
                )
            return StudyClips.of_one_manifest(clips)
        if self.writes:
            check_disk(self._needed())
        labelled, unlabelled = self.settings.manifest, self.settings.unlabelled
        training = None
        if unlabelled is not None:
            training = self._decoded(unlabelled, self._read(unlabelled), "unlabelled", *self._shape)
        manifest = self._cropped(self._read(labelled))
        judged = self._decoded(labelled, manifest, "", *self._shape)
        return StudyClips(
            judged,
            judged if training is None else training,
            lambda frames, size: self._decoded(labelled, manifest, f"{frames}x{size}", frames, size),
        )

    def estimate(self, processes: int) -> Estimate:
        """Count clips by timestamps, and measure a step."""
        from trainer.pretraining.ranks import joined
        from trainer.study.estimate import estimated

        if self.settings.manifest is None:
            clips = self.clips()
            judged, training = clips.judged, clips.pretraining
        else:
            judged = training = self._counted(self.settings.manifest)
            if self.settings.unlabelled is not None:
                training = self._counted(self.settings.unlabelled)
        with joined(self.settings.device) as ranks:
            self.screen.note("measuring a step")
            return estimated(self.settings, self.start, judged, training, self._needed(), ranks, processes)

    @property
    def _shape(self) -> tuple[int, int]:
        config = self.start.model.config
        return config.num_frames, config.image_size

    def _read(self, manifest: Path) -> Manifest:
        from encoder.manifest import read_manifest

        return read_manifest(self.folder / manifest, classes=self.settings.told_apart)

    def _cache(self, part: str) -> Path | None:
        return None if self.settings.frame_cache is None else self.folder / self.settings.frame_cache / part

    def _needed(self) -> list[tuple[Path, int]]:
        """Folders of frame caches that are to be made, and their bytes."""
        from trainer.study.estimate import frames_needed

        if self.settings.manifest is None or self.settings.frame_cache is None:
            return []
        wanted = [(self.settings.manifest, "", self._shape)]
        if self.settings.unlabelled is not None:
            wanted.append((self.settings.unlabelled, "unlabelled", self._shape))
        of_baselines = [(one.frames, one.size) for one in self.settings.baselines if one.frames is not None]
        wanted += [(self.settings.manifest, f"{frames}x{size}", (frames, size)) for frames, size in of_baselines]
        needed = []
        for manifest, part, shape in wanted:
            cache = self._cache(part)
            if cache is not None and not (cache / "clips.json").exists():
                needed += frames_needed(cache, len(self._counted(manifest).clips), *shape)
        return needed

    def _counted(self, manifest: Path) -> TrainingClips:
        from trainer.study.estimate import counted

        if manifest not in self.counts:
            with self.screen.progress(f"Counting clips of {manifest.name}") as progress:
                self.counts[manifest] = counted(self._read(manifest), self.decoders, progress)
        return self.counts[manifest]

    def _cropped(self, manifest: Manifest) -> Manifest:
        """The labelled manifest, with the beds found where the configuration asks for them."""
        if self.settings.bed is None:
            return manifest
        return with_beds(
            *(manifest, self.settings.bed, self.folder, self._cache("")),
            start=self.start,
            workspace=self.workspace,
            device=self.settings.device,
            decoders=self.decoders,
            screen=self.screen,
            writes=self.writes,
        )

    def _decoded(self, named: Path, manifest: Manifest, part: str, num_frames: int, size: int) -> TrainingClips:
        return clips_of(
            *(manifest, self._cache(part), num_frames, size),
            clips=len(self.counts[named].clips) if named in self.counts else None,
            decoders=self.decoders,
            screen=self.screen,
            writes=self.writes,
            shared=self.shared,
        )


def _estimate_values(found: Estimate) -> dict[str, object]:
    from dataclasses import asdict

    from index.errors import StateError

    fits = False
    with suppress(StateError):
        found.check()
        fits = True
    return {**asdict(found), "fits": fits}


def _show_estimate(found: Estimate, screen: Screen) -> None:
    def gib(size: int | None) -> str:
        return "unknown" if size is None else f"{size / 2**30:.1f} GiB"

    rows = [
        ("clips to pretrain on", f"{found.unlabelled_clips:,}"),
        ("labelled clips", f"{found.labelled_clips:,}"),
        ("frames to decode, on disk", f"{gib(found.disk_bytes)} of {gib(found.free_bytes)} free"),
        ("encoders to pretrain", f"{found.pretrainings}, {found.steps:,} steps each"),
        ("memory of a process in a step", f"{gib(found.memory_bytes)} of {gib(found.memory_there)}"),
        ("a step", f"{found.seconds_a_step:.2f} s"),
        ("pretraining and embedding", f"{found.hours:.1f} hours"),
    ]
    shared = "" if found.processes == 1 else f", shared by {found.processes} such"
    screen.table(f"The study, as measured on {found.device}{shared}", ("", ""), rows)
