"""A whole study on a tiny cohort: every row, every mode, the report, and nothing trained twice."""

import json
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from encoder.model.embed import Embedder
from encoder.model.identity import new_encoder
from index.errors import InvalidInput, StateError
from tests.conftest import tiny_architecture
from tests.trainer.cohort import coloured_clips
from trainer.backbones.baselines import BaselineConfig
from trainer.clips import TrainingClips
from trainer.judging.folds import Leak
from trainer.judging.head import HeadConfig
from trainer.judging.metrics import scores
from trainer.pretraining.config import PretrainConfig
from trainer.pretraining.ranks import alone
from trainer.study.ablation import _keys_of_counted, ablate, durations
from trainer.study.config import AblationConfig
from trainer.study.pretrained_encoders import Reporter, StudyClips
from trainer.study.report import as_html, as_text, laid_out, principal_components

pytestmark = pytest.mark.slow

ALONE = alone()
OURS = ["none", "video", "patient", "both"]


def cohort():
    """12 patients, the last 4 external; odd ones exTLE; half of the clips show a sign."""
    made = coloured_clips(patients=12)
    clips = [
        replace(
            clip,
            split="test" if int(clip.patient_id[1:]) >= 8 else "",
            signs=("Semiology-versive",) if clip.clip_index else (),
        )
        for clip in made.clips
    ]
    return TrainingClips(made.frames, tuple(clips))


def configured(**changes):
    settings = {
        "name": "study",
        "modes": ("transductive", "external"),
        "folds": 2,
        "repeats": 2,
        "pretrain": PretrainConfig(max_steps=2),
        "head": HeadConfig(epochs=2),
        "baselines": (BaselineConfig(kind="i3d", size=32, snippet_frames=2, epochs=1),),
    }
    return AblationConfig(**{**settings, **changes})


def run(folder, config, clips=None, told=None):
    reporter = Reporter(step=lambda what, done, total: told.append(what) if told is not None else None)
    start = new_encoder(tiny_architecture(), seed=0)
    references = {"true colour": cohort().frames.mean((1, 2, 3)).astype(np.float32)}
    return ablate(
        StudyClips.of_one_manifest(clips or cohort()), start, config, folder, folder, ALONE, references, reporter
    )


class Checked(HTMLParser):
    """Collects what a page asks for from elsewhere, and its tags."""

    def __init__(self):
        super().__init__()
        self.asked, self.tags = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.asked += [value for name, value in attributes if name in {"src", "href", "srcset"}]


def test_a_study_of_three_classes_has_every_row_and_report(tmp_path):
    names = ("tonic", "clonic", "other")
    clips = cohort()
    labelled = tuple(replace(clip, label=names[int(clip.patient_id[1:]) % 3]) for clip in clips.clips)
    config = configured(classes=names, modes=("transductive", "inductive", "external"))

    study = run(tmp_path, config, TrainingClips(clips.frames, labelled))

    for row in study.rows:
        assert [len(given) for given in row.scores.confusion] == [3, 3, 3]
        assert row.scores.f1 is None
        assert all(sum(one.probabilities) == pytest.approx(1) for one in row.predictions)
    text, page = as_text(study), as_html(study)
    assert "F1 " not in text.replace("macro F1", "")
    assert "Table I of the paper" not in text
    assert page.count("clonic against the others") >= 3
    positive = replace_config(study, "clonic")
    assert "F1 clonic" in as_text(positive)


def replace_config(study, positive):
    """The same study, with a class singled out."""
    study.config = study.config.model_copy(update={"positive": positive})
    study.rows = [replace(row, scores=scores(row.predictions, study.config.told_apart)) for row in study.rows]
    return study


@pytest.mark.parametrize(("classes", "says"), [(("a",), "2 to 10 classes"), (("a", "A"), "small and capital")])
def test_classes_of_a_study_are_checked(classes, says):
    with pytest.raises(ValueError, match=says):
        configured(classes=classes)


def test_the_study_has_every_row_in_every_mode_and_a_report_that_needs_nothing(tmp_path):
    study = run(tmp_path, configured())

    names = [
        *OURS,
        "both, logistic regression",
        "both, by its signs",
        "none, 10 nearest clips",
        "both, 10 nearest clips",
        "I3D + LSTM, random backbone",
    ]
    names += ["motion energy", "mean image", "duration alone", "true colour", "majority class"]
    assert [(row.mode, row.name) for row in study.rows] == [
        (mode, name) for mode in ("transductive", "external") for name in names
    ]
    for row in study.rows:
        videos, patients = (16, 8) if row.mode == "transductive" else (8, 4)
        assert (row.scores.videos, row.scores.patients, len(row.predictions)) == (videos, patients, videos)
        assert sum(map(sum, row.scores.confusion)) == videos
        assert len(row.accuracy_by_seed) == (2 if row.name in {*OURS, "I3D + LSTM, random backbone"} else 1)
        assert (row.against_none is None, row.against_motion is None) == (
            row.name == "none",
            row.name == "motion energy",
        )
    assert len({found.encoder_id for found in study.settings.values()}) == 4
    assert study.settings["both"].signs.queries == 8

    written = json.loads((tmp_path / "result.json").read_text())
    assert [row["name"] for row in written["rows"]] == 2 * names
    text, page = as_text(study), as_html(study)
    assert text.count("no pretraining") == 3  # two modes, and beside the paper
    assert "8 videos of 4 patients" in text
    checked = Checked()
    checked.feed(page)
    assert checked.asked == []
    assert checked.tags.count("svg") == page.count("</svg>") > 20
    assert "script" not in checked.tags


def test_where_onsets_are_known_only_clips_of_the_seizure_count(tmp_path):
    """The second clip of each exTLE video is after the seizure; a long one tells its class by its length alone."""
    clips = cohort()
    timed = tuple(
        replace(clip, onset_s=0.0, seizure_end_s=8.0) if clip.label == "exTLE" else clip for clip in clips.clips
    )
    study = run(tmp_path, configured(baselines=()), clips=replace(clips, clips=timed))

    rows = {row.name: row for row in study.rows if row.mode == "transductive"}
    assert "both, first 20 s" in rows
    assert rows["duration alone"].scores.accuracy.value == 1.0
    assert rows["mean image"].scores.videos == 16
    counted = _keys_of_counted(timed, None)
    assert counted == {(c.video_id, c.clip_index) for c in timed if c.label != "exTLE" or c.clip_index == 0}
    assert durations(timed)[:, 0].tolist() == [8.0 if c.label == "exTLE" else 20.0 for c in timed]


def test_a_second_run_pretrains_nothing_and_finds_the_same(tmp_path):
    first, told = run(tmp_path, configured(baselines=())), []
    second = run(tmp_path, configured(baselines=()), told=told)

    assert not [what for what in told if what.startswith("pretraining")]
    assert json.dumps(second.values()) == json.dumps(first.values())


def test_another_recipe_in_the_same_folder_is_refused_rather_than_mixed(tmp_path):
    run(tmp_path, configured(baselines=()))

    with pytest.raises(StateError, match=r"begun with another configuration \(pretrain.tau\)"):
        run(tmp_path, configured(baselines=(), pretrain=PretrainConfig(max_steps=2, tau=0.1)))


def test_a_copy_of_an_external_file_among_those_pretrained_on_stops_the_study(tmp_path):
    clips = cohort()
    smuggled = replace(clips.clips[0], label="", source_sha256=clips.clips[-1].source_sha256)

    with pytest.raises(Leak, match="1 source files on both sides"):
        run(tmp_path, configured(baselines=()), TrainingClips(clips.frames, (smuggled, *clips.clips[1:])))


def test_inductive_folds_have_encoders_that_did_not_see_their_test_patients(tmp_path):
    told = []
    study = run(tmp_path, configured(modes=("inductive",), baselines=()), told=told)

    made = sorted(path.parent.name.split("-")[0] for path in tmp_path.glob("*-*/checkpoints"))
    assert made == sorted(["video", "patient", "both"] * 3)  # once for all, once for each of two folds
    assert [row.name for row in study.rows][:4] == OURS


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"folds": 5}, "5 folds need 5 patients of each class, .*: use 4 folds"),
        ({"hold_out_split": "elsewhere"}, "the splits are: test"),
    ],
    ids=["folds", "no external patients"],
)
def test_a_study_the_cohort_does_not_allow_is_refused_before_anything_is_trained(tmp_path, changes, said):
    told = []
    with pytest.raises(InvalidInput, match=said):
        run(tmp_path, configured(**changes), told=told)

    assert told == []
    assert not list(tmp_path.iterdir())


def test_a_file_on_both_sides_stops_the_study(tmp_path):
    clips = cohort()
    copied = tuple(replace(clip, source_sha256="same") for clip in clips.clips)

    with pytest.raises(Leak, match="1 source files on both sides"):
        run(tmp_path, configured(baselines=()), TrainingClips(clips.frames, copied))


def test_other_frozen_encoders_are_rows_of_their_own(tmp_path):
    clips, other = cohort(), new_encoder(tiny_architecture(num_frames=2), seed=9)
    halved = replace(clips, frames=np.ascontiguousarray(clips.frames[:, ::2]))
    asked = []

    def decoded(frames, size):
        asked.append((frames, size))
        return halved

    study_clips = StudyClips(clips, clips, decoded)
    start = new_encoder(tiny_architecture(), seed=0)
    config = configured(baselines=(), repeats=1)
    study = ablate(study_clips, start, config, tmp_path, tmp_path, ALONE, frozen={"other": other})

    rows = {(row.mode, row.name): row for row in study.rows}
    assert asked == [(2, 32)]
    assert {(mode, name) for mode, name in rows if name.startswith("other")} == {
        (mode, name) for mode in config.modes for name in ("other", "other, 10 nearest clips")
    }
    (path,) = tmp_path.glob("frozen/vectors-*.npy")
    np.testing.assert_allclose(np.load(path), Embedder(other).embed(list(halved.frames)), atol=1e-5)
    with pytest.raises(InvalidInput, match="other sees 2 frames of 32 pixels, and the frame cache has 4 of 32"):
        ablate(StudyClips(clips, clips), start, config, tmp_path, tmp_path, ALONE, frozen={"other": other})


def test_principal_components_find_the_direction_of_most_variance():
    random = np.random.default_rng(0)
    vectors = random.normal(size=(200, 5)).astype(np.float32) * [1, 9, 1, 4, 1]

    placed = principal_components(vectors)

    assert placed.shape == (200, 2)
    assert abs(np.corrcoef(placed[:, 0], vectors[:, 1])[0, 1]) > 0.99
    assert abs(np.corrcoef(placed[:, 1], vectors[:, 3])[0, 1]) > 0.97


@pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning")  # umap's, for a part not used here
@pytest.mark.parametrize("each", [5, 40])
def test_umap_keeps_groups_together_and_draws_the_same_map_again(each):
    random = np.random.default_rng(0)
    group = np.repeat([0, 1], each)
    vectors = (np.eye(16)[group] + 0.05 * random.normal(size=(2 * each, 16))).astype(np.float32)

    placed = laid_out(vectors, "umap")

    distance = np.linalg.norm(placed[:, None] - placed[None], axis=2) + np.diag([np.inf] * len(placed))
    assert (group[distance.argmin(1)] == group).all()
    np.testing.assert_array_equal(laid_out(vectors, "umap"), placed)


def test_a_map_that_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StateError, match=r"pip install 'semiome\[map\]'"):
        laid_out(np.zeros((3, 2), np.float32), "umap")
