"""The demo: from simulated videos to answers over gRPC, each step the same code that serves a hospital."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from encoder.bed.crop import CropPolicy
from encoder.bed.detector import detector_id
from encoder.job.bed_survey import Surveyed, survey, write_survey
from encoder.job.pipeline import EncodeOptions, encode
from encoder.job.report import EncodeReport
from encoder.manifest import Manifest, ManifestRow, read_manifest
from encoder.model.architecture import preset
from encoder.model.embed import Embedder, threads_beside
from encoder.model.folder import install_encoder
from encoder.model.identity import Encoder, identified, with_crop
from encoder.previews.library import make_previews
from index.errors import StateError
from index.processors import usable_cores
from index.query import GroupBy, Options, VideoQuery
from index.records import SearchAnswer
from index.tables.store import Store
from index.vectors.generation import GenerationManifest, build_generation
from index.vectors.publication import publish
from index.workspace import Workspace
from semiome.commands.data.encode import show_report
from semiome.commands.models.head import train_and_install
from semiome.commands.models.signs import train_and_install_signs
from semiome.commands.service.ask import neighbour_values, verdict_values
from semiome.console import Report, Screen
from semiome.shipped import DEMO_RECIPE, shipped_bed_detector, shipped_encoder
from semiome.simulation.cohort import simulate_cohort
from semiome.simulation.files import write_cohort
from service.client import Client
from service.config import PAGE_PORT
from service.processes.starting import server_process
from service.records import BatchAnswer
from trainer.clips import TrainingClips
from trainer.decoding import decode_all
from trainer.judging.classifiers import Features, Judge, constant_judge, logistic_judge, motion_energy
from trainer.judging.evaluate import commonest_class, judge_patients
from trainer.judging.head import HeadConfig
from trainer.judging.metrics import Prediction, Scores, scores
from trainer.pretraining.config import PretrainConfig
from trainer.pretraining.pretrain import StepLog, Watch, planned_batches, pretrain
from trainer.pretraining.ranks import alone

_NEIGHBOURS = 3
_HELD_OUT = "test"
CAVEAT = (
    "Simulated data, research use only. These figures rank nothing: so few patients can't tell a better encoder from a "
    "worse one, and this one was pretrained for a minute or two."
)


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """How large a demo: simulated patients, videos of each, pretraining epochs, and the seed of it all."""

    patients: int
    videos: int
    epochs: int
    seed: int


@dataclass(frozen=True, slots=True)
class Answers:
    """What the server said of the held-out videos: neighbours of each, and all verdicts."""

    searches: dict[str, SearchAnswer]
    verdicts: BatchAnswer


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Everything the demo has to tell."""

    workspace: Path
    manifest: Manifest
    beds: tuple[Surveyed, ...]
    sheets: tuple[Path, ...]
    report: EncodeReport
    generation: GenerationManifest
    last_step: StepLog
    answers: Answers
    model: Scores
    majority: Scores
    motion: Scores
    seconds: dict[str, float]

    def values(self) -> dict[str, Any]:
        """The results as one JSON object."""
        held_out = list(self.answers.searches)
        return {
            "clips": self.generation.clips,
            "videos": self.generation.videos,
            "patients": self.generation.patients,
            "encoder_id": self.generation.encoder_id,
            "generation": self.generation.generation,
            "beds_found": sum(one.kind == "bed" for one in self.beds),
            "contact_sheets": [str(sheet) for sheet in self.sheets],
            "head_id": self.answers.verdicts.provenance.head_id,
            "neighbours": [
                {
                    "query_video_id": video,
                    "query_patient_id": self._row(video).patient_id,
                    "hits": [neighbour_values(n) for n in answer.neighbours],
                }
                for video, answer in self.answers.searches.items()
            ],
            "verdicts": [
                {**verdict_values(video, result), "true_label": self._row(video).label}
                for video, result in zip(held_out, self.answers.verdicts.results, strict=True)
            ],
            "held_out_accuracy": self.model.accuracy.value,
            "held_out": {
                "patients": self.model.patients,
                "videos": self.model.videos,
                "model": asdict(self.model),
                "majority_class": asdict(self.majority),
                "motion_energy": asdict(self.motion),
            },
            "pretraining": asdict(self.last_step),
            "encoding_seconds": self.report.seconds,
            "seconds": round(sum(self.seconds.values()), 1),
            "seconds_by_step": {step: round(seconds, 1) for step, seconds in self.seconds.items()},
            "caveat": CAVEAT,
        }

    def show(self, screen: Screen) -> None:
        """The results as tables."""
        beds_found = sum(one.kind == "bed" for one in self.beds)
        screen.say(
            f"The bed was found in {beds_found} of {len(self.beds)} videos: look at {', '.join(map(str, self.sheets))}"
        )
        show_report(self.report, self.generation.encoder_id, screen)
        last = self.last_step
        screen.say(
            f"Pretraining ended at loss {last.loss:.2f} (guessing: {last.chance:.2f}), mean cosine "
            f"{last.mean_cosine:.2f}, effective rank {last.effective_rank:.1f}\n"
        )
        neighbours = [
            (video, self._row(video).label, rank, n.similarity, n.clip.video_id, n.label, n.clip.patient_id)
            for video, answer in self.answers.searches.items()
            for rank, n in enumerate(answer.neighbours, start=1)
        ]
        screen.table(
            "Which past seizures look like this one? (own patient excluded)",
            ("held-out video", "its label", "", "similarity", "resembles", "label", "patient"),
            neighbours,
        )
        verdicts = [
            (video, self._row(video).label, v.label, f"{v.probabilities[1]:.2f}", f"{v.votes[0]} : {v.votes[1]}")
            for video, result in zip(self.answers.searches, self.answers.verdicts.results, strict=True)
            if result.judged is not None and (v := result.judged.verdict)
        ]
        screen.table(
            "Temporal or extratemporal?",
            ("held-out video", "its label", "verdict", "P(exTLE)", "votes TLE : exTLE"),
            verdicts,
        )
        rows = [
            (name, f"{s.accuracy.value:.2f}", f"{s.accuracy.low:.2f} to {s.accuracy.high:.2f}", s.videos, s.patients)
            for name, s in (
                ("this encoder", self.model),
                ("majority class", self.majority),
                ("motion energy", self.motion),
            )
        ]
        screen.table(
            f"How often right, on {self.model.patients} held-out patients? (patients are the N that counts)",
            ("", "accuracy", "95 % interval", "videos", "patients"),
            rows,
        )
        screen.say(f"{CAVEAT}\n", style="bold")
        steps = ", ".join(f"{step} {seconds:.0f} s" for step, seconds in self.seconds.items())
        screen.say(f"{sum(self.seconds.values()):.0f} s in all: {steps}.\n")
        command = os.path.relpath(sys.argv[0]) if Path(sys.argv[0]).name == "semiome" else "semiome"
        clip = next(iter(self.answers.searches.values())).neighbours[0].query_clip_id
        screen.say(
            f"Everything is left in {self.workspace}: videos, manifest and true signs in cohort/. To go on:\n"
            f"  {command} serve --workspace {self.workspace} --web\n"
            f"  {command} search --clip {clip} --group-by video\n"
            f"  {command} classify --video {next(iter(self.answers.searches))}"
        )

    def _row(self, video_id: str) -> ManifestRow:
        return next(row for row in self.manifest.rows if row.video_id == video_id)


def run(folder: Path, config: DemoConfig, screen: Screen) -> DemoResult:
    """Do all of it.

    Args:
        folder: the workspace to make; the cohort goes into `cohort/` in it.
        config: size of the demo.
        screen: shows progress.

    Raises:
        StateError: If the folder holds something else.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "cohort").is_dir():
        raise StateError(f"{folder} is not empty and not an earlier demo: name another folder with --workspace")
    place, cores = Workspace(folder), usable_cores()
    clock = _Clock()

    with clock.step("simulate"), screen.progress("Simulating videos") as progress:
        recordings = simulate_cohort(config.patients, config.videos, config.seed)
        manifest = read_manifest(write_cohort(recordings, folder / "cohort", cores, progress))

    shape, start = preset("timesformer-demo"), shipped_encoder()
    with clock.step("find beds"), screen.progress("Looking for beds") as progress:
        detector = shipped_bed_detector()
        policy = CropPolicy(detector_id(detector), no_bed="camera")
        beds = survey(manifest, with_crop(start, policy, detector), Store(place), cores, progress)
        boxes, *sheets = write_survey(beds, place.new_run("beds"))
    with clock.step("decode for training"), screen.progress("Decoding for training") as progress:
        clips = decode_all(read_manifest(boxes, manifest.folder), shape.num_frames, shape.image_size, cores, progress)
    training = clips.of(lambda clip: clip.split != _HELD_OUT)
    with clock.step("pretrain"), screen.progress("Pretraining") as progress:
        trained, logs = _pretrained(start, training, config, progress)
    encoder = with_crop(trained, policy, detector)
    install_encoder(encoder, place.encoders)

    with clock.step("encode"), screen.progress("Encoding videos") as progress:
        options = EncodeOptions(batch=4)
        embedder = Embedder(encoder, threads=threads_beside(shape, options.decoders))
        report = encode(manifest, embedder, Store(place), options, progress)
    with clock.step("previews"), screen.progress("Making previews") as progress:
        make_previews(manifest, place, cores, progress)
    with clock.step("train heads and build index"):
        train_and_install(place, HeadConfig(seed=config.seed), _HELD_OUT)
        with suppress(StateError):  # too few patients to tell any sign
            train_and_install_signs(place, _HELD_OUT, config.seed)
        generation = build_generation(Store(place).clips(encoder.encoder_id), place.generations)
        publish(place, generation.generation)
    with clock.step("serve and ask"):
        answers = _ask(folder, [row.video_id for row in manifest.rows if row.split == _HELD_OUT])

    with clock.step("baselines"):
        judged = _judged(clips, answers)
    return DemoResult(
        folder, manifest, beds, tuple(sheets), report, generation, logs[-1], answers, *judged, seconds=clock.seconds
    )


def _pretrained(
    start: Encoder, training: TrainingClips, config: DemoConfig, progress: Report
) -> tuple[Encoder, list[StepLog]]:
    """The shipped encoder, trained on by eq. 3 on the patients that are not held out."""
    patients = min(DEMO_RECIPE["patients"], len(set(training.patient_of)))
    recipe = PretrainConfig(**{**DEMO_RECIPE, "patients": patients}, epochs=config.epochs, seed=config.seed)
    total = len(planned_batches(training, recipe))
    watch = Watch(on_step=lambda log: progress(log.step, total))
    logs = pretrain(start.trainable, training, recipe, alone(), watch=watch)
    origin = f"{start.origin}; pretrained by the demo for {total} steps on simulated videos, seed {config.seed}"
    return identified(start.model, origin, trained=True), logs


def _ask(folder: Path, video_ids: list[str]) -> Answers:
    """Start a server of its own process and be its client."""
    with server_process(folder) as server, Client(server["address"]) as client:
        searches = {
            video_id: client.search(VideoQuery(video_id), _NEIGHBOURS, Options(group_by=GroupBy.VIDEO))
            for video_id in video_ids
        }
        return Answers(searches, client.classify_batch([VideoQuery(video_id) for video_id in video_ids]))


def show_page(workspace: Path, screen: Screen, *, wait: bool, open_it: bool) -> None:
    """The end of the demo: its review page.

    Args:
        workspace: the demo's.
        screen: shows where the page is.
        wait: serve it until Ctrl-C; else only say how.
        open_it: open it in a browser too.
    """
    if not wait:
        screen.note(f"to look at it: `semiome serve --workspace {workspace} --web`, then http://127.0.0.1:{PAGE_PORT}")
        return
    port = PAGE_PORT
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            port = 0
    with server_process(workspace, "--web-port", str(port)) as server:
        screen.note(f"The review page is at {server['page']} (Ctrl-C ends)")
        if open_it:
            webbrowser.open(server["page"])
        with suppress(KeyboardInterrupt):
            signal.pause()


def _judged(clips: TrainingClips, answers: Answers) -> tuple[Scores, Scores, Scores]:
    """The model, the majority class and motion energy, on the held-out videos."""
    truth = {clip.video_id: clip for clip in clips.clips}
    said = [
        Prediction(video, truth[video].patient_id, truth[video].label, verdict.label, verdict.probabilities)
        for video, result in zip(answers.searches, answers.verdicts.results, strict=True)
        if result.judged is not None and (verdict := result.judged.verdict)
    ]
    held_out = {clip.patient_id for clip in clips.clips if clip.split == _HELD_OUT}
    learned = {clip.patient_id for clip in clips.clips} - held_out
    energy: Features = np.stack([motion_energy(frames) for frames in clips.frames])

    def of(judge: Judge) -> Scores:
        return scores(judge_patients(energy, clips.clips, judge, sorted(learned), sorted(held_out)))

    commonest = commonest_class([clip for clip in clips.clips if clip.patient_id in learned])
    return scores(said), of(constant_judge(commonest)), of(logistic_judge)


class _Clock:
    """Seconds of each step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - started
