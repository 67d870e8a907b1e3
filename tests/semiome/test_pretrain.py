"""`semiome pretrain` as its users run it: killed, resumed, on two ranks, and with files that are wrong."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from encoder.model.folder import save_encoder
from encoder.model.identity import new_encoder
from index.errors import InvalidInput
from tests import forge
from tests.conftest import tiny_architecture
from tests.forge import Forged
from tests.waiting import PATIENCE_S, until
from trainer.pretraining.run import RunConfig, read_config

VIDEOS = tuple(
    (name, f"p{i % 2}", f"v{i}", camera)
    for i, (name, camera) in enumerate(
        [("h264_25fps.mp4", "a"), ("exactly_10s.mp4", "a"), ("h264_30000_1001.mp4", "b"), ("short_7s.mp4", "b")]
    )
)
RANKS = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture
def study(hospital, tmp_path):
    """A manifest of four videos of two patients, a tiny encoder, and `write(**recipe)` for the configuration."""
    manifest = hospital(*VIDEOS, columns=("file_name", "patient_id", "video_id", "camera"))
    folder = manifest.parent
    save_encoder(new_encoder(tiny_architecture(), seed=0), folder / "start")
    start = next((folder / "start").iterdir()).name

    def write(name="run", settings="", **recipe):
        lines = [f'name = "{name}"', 'manifest = "manifest.csv"', f'encoder = "start/{start}"', "threads = 1", settings]
        lines += ["[pretrain]", *(f"{key} = {json.dumps(value)}" for key, value in recipe.items())]
        path = folder / f"{name}.toml"
        path.write_text("\n".join(lines))
        return path

    return write


def start(config, workspace, *launcher, **streams):
    """`semiome pretrain`, forged, or, behind a launcher, as a real process."""
    command = ("pretrain", str(config), "--workspace", str(workspace), "--json")
    if not launcher:
        return Forged(*command, **streams)
    return subprocess.Popen([sys.executable, *launcher, "-m", "semiome", *command], text=True, **streams)


def pretrained(config, workspace, *launcher):
    process = start(config, workspace, *launcher, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate()
    values = json.loads(out.splitlines()[-1]) if out.strip() else {}
    return process.returncode, values, err


def steps_of(workspace, name="run"):
    log = workspace / "runs" / name / "log.jsonl"
    written = log.read_text() if log.exists() else ""
    whole = written[: written.rfind("\n") + 1]  # a line may be on its way while it is read
    lines = [json.loads(line) for line in whole.splitlines()]
    return [line for line in lines if "loss" in line]


def kill_after(process, steps, workspace, number=signal.SIGKILL):
    """Send a signal once so many steps are logged."""
    await_steps(process, steps, workspace)
    os.kill(process.pid, number)


def await_steps(process, steps, workspace):
    """Wait until so many steps are logged by a process that goes on."""

    def reached():
        assert process.poll() is None
        return len(steps_of(workspace)) >= steps

    until(reached)


@pytest.mark.slow
def test_a_run_killed_in_mid_epoch_ends_with_the_loss_curve_and_weights_of_one_that_was_not(study, tmp_path):
    recipe = {"epochs": 20, "checkpoint_every": 3, "augmentation": "full", "memory": 8, "projection": 8}
    code, wanted, _ = pretrained(study(**recipe), tmp_path / "whole")
    assert code == 0

    process = start(study(**recipe), tmp_path / "killed", stderr=subprocess.DEVNULL)
    kill_after(process, 7, tmp_path / "killed")
    assert process.wait() == -signal.SIGKILL
    code, found, _ = pretrained(study(**recipe), tmp_path / "killed")

    assert code == 0
    assert steps_of(tmp_path / "killed") == steps_of(tmp_path / "whole")
    assert found == wanted
    assert wanted["steps"] == len(steps_of(tmp_path / "whole")) >= 20


def test_sigterm_leaves_a_checkpoint_and_says_how_to_go_on(study, tmp_path):
    config = study(epochs=2000, checkpoint_every=10_000)
    process = start(config, tmp_path / "w", stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    kill_after(process, 3, tmp_path / "w", signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 4
    assert "run the same command again to go on" in err
    assert json.loads(out)["error"]["type"] == "Interrupted"
    last = len(steps_of(tmp_path / "w"))
    assert [path.name for path in (tmp_path / "w" / "runs" / "run" / "checkpoints").iterdir()] == [
        f"checkpoint-{last:08d}.safetensors"
    ]


@pytest.mark.slow
def test_sigterm_to_torchrun_leaves_a_checkpoint_of_the_last_step(study, tmp_path):
    config = study(settings='frame_cache = "cache"', epochs=20_000, checkpoint_every=100_000)
    process = start(config, tmp_path / "w", *RANKS, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    kill_after(process, 8, tmp_path / "w", signal.SIGTERM)
    assert process.wait(timeout=PATIENCE_S) != 0

    (checkpoint,) = (tmp_path / "w" / "runs" / "run" / "checkpoints").iterdir()
    assert checkpoint.name == f"checkpoint-{len(steps_of(tmp_path / 'w')):08d}.safetensors"


@pytest.mark.slow
def test_two_ranks_take_the_same_steps_as_one(study, tmp_path):
    cached = study(settings='frame_cache = "cache"', epochs=3)

    _, alone, _ = pretrained(cached, tmp_path / "one")
    code, values, said = pretrained(cached, tmp_path / "two", *RANKS)

    assert code == 0, said
    one, two = (steps_of(tmp_path / name) for name in ("one", "two"))
    assert len(one) == len(two) == values["steps"]
    for a, b in zip(one, two, strict=True):
        assert b == pytest.approx(a, abs=2e-4)
    assert values["coverage"] == alone["coverage"]


@pytest.mark.slow
def test_a_killed_rank_ends_the_job_and_it_resumes(study, tmp_path):
    config = study(settings='frame_cache = "cache"', max_steps=120, epochs=2000, checkpoint_every=10)
    process = start(config, tmp_path / "w", *RANKS, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    await_steps(process, 15, tmp_path / "w")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    assert process.wait(timeout=PATIENCE_S) != 0

    before = len(steps_of(tmp_path / "w"))
    code, values, said = pretrained(config, tmp_path / "w", *RANKS)
    assert code == 0, said
    assert before < values["steps"] == len(steps_of(tmp_path / "w")) == 120
    assert [line["step"] for line in steps_of(tmp_path / "w")] == list(range(1, 121))


def test_too_few_patients_are_said_and_nothing_is_left(study, tmp_path):
    code, values, err = pretrained(study(patients=3), tmp_path / "w")

    assert code == 2
    assert "at least 3 patients with two clips or more, got 2" in err
    assert values["error"]["message"] in err
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("settings", "recipe", "said"),
    [
        ("", {"tau": 0}, "pretrain.tau: input should be greater than 0, got 0"),
        ("", {"taau": 0.1}, "pretrain.taau: unknown key"),
        (
            "colour = 3",
            {"epochs": 0},
            "pretrain.epochs: input should be greater than or equal to 1, got 0\n  colour: unknown key",
        ),
        ("manifest = 3", {}, "not TOML"),
    ],
    ids=["tau", "unknown in recipe", "two at once", "twice"],
)
def test_everything_wrong_with_a_configuration_is_said(study, settings, recipe, said):
    with pytest.raises(InvalidInput) as refused:
        read_config(study(settings=settings, **recipe), RunConfig)

    assert said in str(refused.value)


def test_a_run_of_another_recipe_or_other_clips_is_not_gone_on_with(study, tmp_path):
    assert pretrained(study(max_steps=2), tmp_path / "w")[0] == 0

    code, _, said = pretrained(study(max_steps=3, tau=0.2), tmp_path / "w")
    assert code == 4
    assert "run run was begun with another configuration (pretrain.max_steps, pretrain.tau)" in said


@pytest.mark.slow
def test_ranks_that_disagree_on_the_clips_say_so(tmp_path):
    worker = tmp_path / "worker.py"
    worker.write_text(
        "from trainer.pretraining.ranks import joined\n"
        "with joined('cpu') as ranks:\n"
        "    ranks.agree('the manifest', f'digest-{ranks.rank}')\n"
    )
    done = subprocess.run([sys.executable, *RANKS, str(worker)], capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert "the ranks disagree on the manifest: rank 0 has digest-0, rank 1 has digest-1" in done.stderr


@pytest.mark.slow
def test_several_ranks_need_a_frame_cache(study, tmp_path):
    code, _, said = pretrained(study(epochs=1), tmp_path / "w", *RANKS)

    assert code != 0
    assert "several processes share one frame cache" in said


def test_the_size_of_a_cache_is_said_before_it_is_written(study, tmp_path):
    code, _, said = pretrained(study(settings='frame_cache = "cache"', max_steps=1), tmp_path / "w")

    assert code == 0
    assert "the frame cache will take 0.00 GiB" in said


def test_the_log_can_be_written_for_tensorboard_too(study, tmp_path):
    done = forge.run("pretrain", study(max_steps=3), "--workspace", tmp_path / "w", "--json", "--tensorboard")

    assert done.returncode == 0
    events = EventAccumulator(str(tmp_path / "w" / "runs" / "run" / "tensorboard"))
    events.Reload()
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(
        [step["loss"] for step in steps_of(tmp_path / "w")]
    )
