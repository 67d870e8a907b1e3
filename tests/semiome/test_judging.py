"""`semiome evaluate` and `semiome ablate` as their users run them."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from encoder.head import load_head
from encoder.model.folder import install_encoder
from encoder.model.identity import new_encoder
from index.errors import EncoderMismatch, InvalidInput, SemiomeError, StateError
from index.workspace import Workspace, set_current
from semiome.__main__ import exit_code
from semiome.commands.models.ablate import ablate
from semiome.commands.models.evaluate import evaluate
from semiome.commands.models.judge import judge
from tests.conftest import DATA, WIDTH, commit, make_cohort, make_video, tiny_architecture
from tests.semiome.test_commands import result_of, semiome
from tests.semiome.test_pretrain import RANKS
from tests.trainer.cohort import coloured_clips
from trainer.frame_cache import write_cache
from trainer.study import estimate


def stored(folder, cohort):
    """A workspace that holds a cohort's embeddings, with its encoder in use."""
    workspace = Workspace(folder)
    commit(workspace, cohort)
    (workspace.encoders / "enc1").mkdir(parents=True)
    set_current(workspace.encoders, "enc1")
    return folder


def labelled_cohort(patients):
    random = np.random.default_rng(0)
    return [
        make_video(p, v, 3, random, label=("TLE", "exTLE")[p % 2], width=WIDTH)
        for p in range(patients)
        for v in range(2)
    ]


def test_evaluate_judges_every_labelled_video_without_its_patient(tmp_path, capsys):
    workspace = stored(tmp_path / "w", labelled_cohort(10))

    values = result_of(semiome("evaluate", "-w", workspace, "--folds", 5, "--seeds", 2, "--json", cwd=tmp_path))

    assert list(values["rows"]) == [
        "head",
        "10 nearest clips",
        "logistic regression",
        "duration alone",
        "by its signs",
        "majority class",
    ]
    for row in values["rows"].values():
        assert (row["videos"], row["patients"], len(row["accuracy_by_fold"]), len(row["accuracy_by_seed"])) == (
            20,
            10,
            5,
            2,
        )
        assert sum(map(sum, row["confusion"])) == 20
        assert row["accuracy"]["low"] <= row["accuracy"]["value"] <= row["accuracy"]["high"]
    assert values["rows"]["majority class"]["majority"] == 0.5
    assert set(values["head_against"]) == {
        "10 nearest clips",
        "logistic regression",
        "duration alone",
        "by its signs",
        "majority class",
    }
    evaluate(workspace, folds=2, seeds=1, epochs=1)
    shown = capsys.readouterr().out
    assert "20 videos of 10 patients" in shown
    assert "Research use only" in shown


def test_what_lies_outside_a_seizure_neither_teaches_the_head_nor_is_judged(tmp_path):
    cohort = labelled_cohort(10)
    for number, (video, clips) in enumerate(cohort):  # the first clip of each of half of them lies before the onset
        if number % 2:
            cohort[number] = replace(video, onset_s=10.0, seizure_end_s=30.0), clips
    workspace = stored(tmp_path / "w", cohort)

    head = result_of(semiome("head", "train", "-w", workspace, "--json", cwd=tmp_path))
    first = result_of(semiome("head", "train", "-w", workspace, "--from-onset", 10, "--json", cwd=tmp_path))
    values = result_of(semiome("evaluate", "-w", workspace, "--folds", 5, "--seeds", 1, "--json", cwd=tmp_path))

    assert [(said["clips"], said["clips_outside_seizure"]) for said in (head, first)] == [(50, 10), (40, 20)]
    assert head["head_id"] != first["head_id"]
    assert load_head(Workspace(workspace).heads).card.from_onset_s == 10
    assert (values["clips"], values["clips_outside_seizure"]) == (50, 10)
    assert "head, first 20 s" in values["rows"]
    assert values["rows"]["head, first 20 s"]["videos"] == 20


@pytest.mark.parametrize(
    ("cohort", "options", "code", "said"),
    [
        (labelled_cohort(6), {"folds": 5}, 2, "5 folds need 5 patients of each class"),
        (labelled_cohort(1), {}, 2, "expected labelled videos of every class (TLE and exTLE), got TLE"),
        (make_cohort(patients=1, videos=1), {}, 2, "got TLE"),
    ],
    ids=["too many folds", "one class", "one video"],
)
def test_evaluate_says_what_the_cohort_does_not_allow(tmp_path, cohort, options, code, said):
    with pytest.raises(SemiomeError) as refused:
        evaluate(stored(tmp_path / "w", cohort), seeds=1, **options)

    assert exit_code(refused.value) == code
    assert said in str(refused.value)


def test_evaluate_of_an_empty_workspace_says_what_to_do_first(tmp_path):
    done = semiome("evaluate", "-w", tmp_path / "w", cwd=tmp_path)

    assert done.returncode == 4
    assert "run `semiome encode` first" in done.stderr


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A frame cache of eight patients that fits the shipped kind of encoder, and a configuration."""
    folder = tmp_path_factory.mktemp("study")
    clips = coloured_clips(patients=8, num_frames=12, size=96)
    write_cache(folder / "frames", clips.frames, clips.clips)
    (folder / "study.toml").write_text(
        'name = "small"\nframe_cache = "frames"\nencoder = "timesformer-demo"\nfolds = 2\nrepeats = 1\n'
        "[pretrain]\nmax_steps = 1\n[head]\nepochs = 1\n"
    )
    return folder


def test_ablate_writes_its_table_as_text_json_and_a_page(study, capsys):
    values = result_of(semiome("ablate", "study.toml", "-w", "w", "--json", cwd=study))

    names = [row["name"] for row in values["rows"]]
    assert names[:4] == ["none", "video", "patient", "both"]
    written = study / "w" / "runs" / "small"
    assert json.loads((written / "result.json").read_text())["rows"] == values["rows"]
    assert "16 videos of 8 patients" in (written / "table.txt").read_text()
    assert (written / "report.html").read_text().startswith("<!doctype html>")
    ablate(study / "study.toml", study / "w")
    shown = capsys.readouterr().out
    assert "no pretraining" in shown
    assert "report.html" in shown


@pytest.mark.parametrize(
    ("changed", "code", "said"),
    [
        ('frame_cache = "frames"', 2, "expected a manifest or a frame_cache"),
        ('frame_cache = "absent"', 2, "no frame cache in absent"),
        ('encoder = "timesformer-b"', 2, "expected a frame cache of 8 frames of 224 pixels"),
        ('encoder = "absent"', 2, "expected an encoder folder, a .pyth checkpoint or a preset"),
        ("folds = 9", 2, "9 folds need 9 patients of each class"),
        ('modes = ["sideways"]', 2, "modes.0: input should be"),
        ('[[baselines]]\nkind = "i3d"\n', 2, "snippets of at most 12 frames, got 16"),
        ('[[baselines]]\nkind = "i3d"\nweights = "absent.pt"', 2, "there is no file of weights absent.pt"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_wrong_study_is_refused_with_what_to_do(study, changed, code, said):
    key = changed.split(" =")[0]
    lines = [line for line in (study / "study.toml").read_text().splitlines() if not line.startswith(key)]
    lines = [line for line in lines if "small" not in line]
    top = [] if changed == 'frame_cache = "frames"' or changed.startswith("[[") else [changed]
    end = [changed] if changed.startswith("[[") else []
    (study / "wrong.toml").write_text("\n".join(['name = "wrong"', *top, *lines, *end]))

    with pytest.raises(SemiomeError) as refused:
        ablate(study / "wrong.toml", study / "w2")

    assert exit_code(refused.value) == code
    assert said in str(refused.value)


@pytest.mark.slow
def test_ranks_share_an_ablation_and_find_what_one_process_finds(study):
    alone = result_of(semiome("ablate", "study.toml", "-w", "w1", "--json", cwd=study))
    done = subprocess.run(
        [sys.executable, *RANKS, "-m", "semiome", "ablate", "study.toml", "-w", "w2", "--json"],
        cwd=study,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    shared = json.loads(done.stdout)
    assert [row["name"] for row in shared["rows"]] == [row["name"] for row in alone["rows"]]
    for ours, theirs in zip(shared["rows"], alone["rows"], strict=True):
        pairs = zip(ours["predictions"], theirs["predictions"], strict=True)
        assert all(a["probabilities"] == pytest.approx(b["probabilities"], abs=1e-3) for a, b in pairs)
    again = result_of(semiome("ablate", "study.toml", "-w", "w2", "--json", cwd=study))
    assert again["rows"] == shared["rows"]  # nothing is pretrained a second time


def test_what_a_study_takes_is_estimated_before_it(study, monkeypatch):
    values = result_of(
        semiome("ablate", "study.toml", "-w", "w-estimate", "--estimate", "--processes", 2, "--json", cwd=study)
    )

    assert (values["unlabelled_clips"], values["labelled_clips"], values["disk_bytes"]) == (32, 32, 0)
    assert (values["pretrainings"], values["steps"], values["processes"]) == (3, 1, 2)
    assert 0 < values["seconds_a_step"] < 60
    assert 2**20 < values["memory_bytes"] < values["memory_there"]
    assert values["fits"] is True
    assert not (study / "w-estimate" / "runs").exists()
    monkeypatch.setattr(estimate, "_memory", lambda device: 2**20)
    with pytest.raises(StateError, match=r"a step takes .* of memory and a CPU .* has 0.0 GiB: use a smaller at_once"):
        ablate(study / "study.toml", study / "w", estimate=True)


def test_frames_that_do_not_fit_are_refused_before_any_is_decoded(study, monkeypatch):
    (study / "videos.csv").write_text(
        "file_name,patient_id,video_id,label\n"
        + "".join(f"{n}.mp4,p{n},v{n},{('TLE', 'exTLE')[n % 2]}\n" for n in range(4))
    )
    for number in range(4):
        shutil.copy(DATA / "videos" / "h264_25fps.mp4", study / f"{number}.mp4")
        with (study / f"{number}.mp4").open("ab") as stream:
            stream.write(bytes([number]))  # another file
    (study / "large.toml").write_text(
        'name = "large"\nmanifest = "videos.csv"\nframe_cache = "new"\nencoder = "timesformer-demo"\nfolds = 2\n'
    )
    monkeypatch.setattr(estimate, "spare_bytes", lambda folder: 1000)
    with pytest.raises(StateError, match=r"the frames take .* and the disk of the frame cache has 0.0 GiB for them"):
        ablate(study / "large.toml", study / "w")
    assert not (study / "new").exists()


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (
            'classes = ["TLE", "exTLE", "frontal"]\n',
            r"labelled videos of every class \(TLE and exTLE and frontal",
        ),
        ("folds = 30\n", "30 folds need 30 patients of each class"),
        ('hold_out_split = "nope"\n', "no video has split 'nope'"),
        ('frozen = ["absent"]\n', "frozen encoder absent:"),
        (
            '[[baselines]]\nkind = "i3d"\nsize = 32\nsnippet_frames = 2\nweights = "no.pth"\n',
            "no file of weights no.pth",
        ),
    ],
)
@pytest.mark.parametrize("options", [(), ("--estimate",)])
def test_what_a_cohort_does_not_allow_is_refused_before_anything_is_decoded(tmp_path, said, says, options):
    """The files that the manifest names are not even there."""
    rows = [f"{n}.mp4,p{n},v{n},{('TLE', 'exTLE')[n % 2]},train" for n in range(6)]
    (tmp_path / "videos.csv").write_text("\n".join(["file_name,patient_id,video_id,label,split", *rows]))
    (tmp_path / "c.toml").write_text(
        'name = "c"\nmanifest = "videos.csv"\nframe_cache = "new"\nencoder = "timesformer-demo"\n'
        + ("" if "hold_out" in said else 'hold_out_split = ""\n')
        + ("" if "folds" in said else "folds = 2\n")
        + said
    )

    done = semiome("ablate", "c.toml", *options, cwd=tmp_path)

    assert done.returncode == 2
    assert re.search(says, " ".join(done.stderr.split()))
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """A workspace of eight patients' videos with their previews, two patients held out of its head."""
    folder = tmp_path_factory.mktemp("seen")
    lines = ["file_name,patient_id,video_id,label,split"]
    for number in range(8):
        source = DATA / "videos" / ("h264_25fps.mp4" if number % 2 else "short_7s.mp4")
        (folder / f"{number}.mp4").write_bytes(source.read_bytes() + bytes([number]))
        split = "test" if number >= 6 else "train"
        lines.append(f"{number}.mp4,p{number},v{number},{('TLE', 'exTLE')[number % 2]},{split}")
    (folder / "m.csv").write_text("\n".join(lines) + "\n")
    workspace = Workspace(folder / "w")
    install_encoder(new_encoder(tiny_architecture(), seed=0), workspace.encoders)
    for command in (("encode", "m.csv"), ("previews", "m.csv"), ("head", "train", "--epochs", 1)):
        result_of(semiome(*command, "-w", "w", "--json", cwd=folder))
    return folder


def test_judge_tells_how_good_the_head_is_on_patients_it_never_saw(seen, capsys):
    values = result_of(semiome("judge", "-w", "w", "--json", cwd=seen))

    assert (values["patients_learned_from"], values["patients_judged"]) == (6, 2)
    assert list(values["rows"]) == [
        *("head in use", "10 nearest clips", "logistic regression"),
        *("duration alone", "motion energy", "majority class"),
    ]
    for row in values["rows"].values():
        assert (row["videos"], row["patients"]) == (2, 2)
    # The videos of a class are one film: what moves in it tells the class without fail, and two patients prove little.
    assert values["rows"]["motion energy"]["accuracy"]["value"] == 1.0
    assert values["rows"]["motion energy"]["accuracy"]["low"] < 0.5
    kept = json.loads((seen / values["report"]).read_text())
    assert kept == {key: value for key, value in values.items() if key != "report"}
    assert not any(f"p{number}" in json.dumps(kept) for number in range(8))
    judge(seen / "w", split="test")
    assert "2 videos of 2 patients the head has not learned from" in capsys.readouterr().out
    with pytest.raises(InvalidInput, match="no patient with a label is stored that the head in use has not learned"):
        judge(seen / "w", split="train")


def test_evaluate_leaves_one_patient_out_and_has_a_row_for_motion(seen):
    values = result_of(semiome("evaluate", "-w", "w", "--folds", "patient", "--seeds", 1, "--json", cwd=seen))

    assert values["folds"] == "patient"
    assert len(values["rows"]["head"]["accuracy_by_fold"]) == 8
    assert values["rows"]["motion energy"]["accuracy"]["value"] == 1.0
    assert json.loads((seen / values["report"]).read_text())["rows"] == values["rows"]
    with pytest.raises(InvalidInput, match="give one"):
        evaluate(seen / "w", folds="2", external="test")
    external = result_of(semiome("evaluate", "-w", "w", "--external", "test", "--seeds", 1, "--json", cwd=seen))
    assert (external["held_out_patients"], external["rows"]["head"]["videos"]) == (2, 2)


@pytest.mark.parametrize("folds", ["1", "five", "٣", ""])
def test_a_number_of_folds_that_is_none_is_refused(tmp_path, folds):
    with pytest.raises(InvalidInput, match="expected a number of folds of at least 2, or patient"):
        evaluate(tmp_path / "w", folds=folds)


def test_a_head_of_another_encoder_is_not_judged(seen, tmp_path):
    shutil.copytree(seen / "w", tmp_path / "w")
    install_encoder(new_encoder(tiny_architecture(), seed=1), Workspace(tmp_path / "w").encoders)
    with pytest.raises(EncoderMismatch):
        judge(tmp_path / "w")
