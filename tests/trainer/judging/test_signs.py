"""Sign heads: told from tags of videos alone, found in the right clips, calibrated, and silent where they must be."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from index.errors import InvalidInput
from index.feedback.statement import Feedback
from index.records import Clip, Video
from trainer.judging.folds import Fold
from trainer.judging.sign_examples import sign_examples
from trainer.judging.signs import LEAST_PATIENTS, BySigns, train_signs

WIDTH = 24
SIGNS = ("Semiology-tonic", "Semiology-versive", "own")


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def cohort(patients=40, videos=3, clips=5, seed=0, share=(0.4, 0.3, 0.5), strength=(1.2, 1.2, 0.0)):
    """Videos tagged with what some of their clips show, and whether each clip shows it; `own` leaves no trace."""
    random = np.random.default_rng(seed)
    directions = unit(random.normal(size=(len(SIGNS), WIDTH)))
    stored, vectors, shown, known = [], [], [], {}
    for p in range(patients):
        usual = random.normal(size=WIDTH) * 0.5
        shows = random.random(len(SIGNS)) < share
        for v in range(videos):
            name = f"v{p:02d}-{v}"
            there = shows & (random.random(len(SIGNS)) < 0.9)
            in_clip = np.zeros((clips, len(SIGNS)), bool)
            for sign in np.flatnonzero(there):
                in_clip[random.choice(clips, random.integers(1, 4), replace=False), sign] = True
            tags = tuple(sorted(SIGNS[s] for s in np.flatnonzero(there))) or ("Semiology-arrest",)
            known[name] = Video(name, f"p{p:02d}", "0" * 64, semiology=tags)
            for n in range(clips):
                stored.append(Clip(f"{name}-{n}", name, f"p{p:02d}", n, 10.0 * n, 10.0))
                noise = random.normal(size=WIDTH) * 0.25
                vectors.append(usual * 0.4 + noise + (in_clip[n] * np.array(strength)) @ directions)
                shown.append(in_clip[n])
    return stored, unit(np.array(vectors, np.float32)), known, np.array(shown)


def test_clips_that_show_a_sign_are_found_from_tags_of_videos_alone():
    stored, vectors, videos, _ = cohort()
    new, new_vectors, _, shown = cohort(seed=0, patients=60)
    outside = np.array([clip.patient_id > "p39" for clip in new])

    heads = train_signs(sign_examples("enc1", stored, vectors, videos))

    assert heads.card.names == ("Semiology-tonic", "Semiology-versive")
    assert dict(heads.card.not_judged).keys() >= {"own"}
    assert "no better than by chance" in dict(heads.card.not_judged)["own"]
    said = heads.probabilities(new_vectors[outside], "enc1")
    for number, name in enumerate(heads.card.names):
        there = shown[outside][:, SIGNS.index(name)]
        assert roc_auc_score(there, said[:, number]) > 0.85
        sign = heads.card.signs[number]
        assert sign.auroc_low <= sign.auroc <= sign.auroc_high
        assert sign.patients + sign.others == 40


def test_probabilities_of_videos_are_what_they_say():
    """Noisy or over a video's clips, of patients to come: as many videos have the sign as are promised."""
    stored, vectors, videos, _ = cohort(patients=80)
    new, new_vectors, new_videos, _ = cohort(seed=0, patients=200)
    outside = [n for n, clip in enumerate(new) if int(clip.patient_id[1:]) >= 80]
    heads = train_signs(sign_examples("enc1", stored, vectors, videos))

    said = heads.probabilities(new_vectors[outside], "enc1")
    names = np.array([new[n].video_id for n in outside])
    ids = list(dict.fromkeys(names))
    promised = np.array([1 - np.prod(1 - said[names == name], axis=0) for name in ids])

    for number, name in enumerate(heads.card.names):
        there = np.array([name in new_videos[one].semiology for one in ids])
        assert promised[:, number].mean() == pytest.approx(there.mean(), abs=0.08)
        likely = promised[:, number] > 0.7
        assert there[likely].mean() == pytest.approx(promised[likely, number].mean(), abs=0.12)


def test_too_few_patients_are_told_and_nothing_is_judged():
    stored, vectors, videos, _ = cohort(patients=8, share=(0.3, 0.99, 0.3))

    heads = train_signs(sign_examples("enc1", stored, vectors, videos))

    said = dict(heads.card.not_judged)
    assert f"{LEAST_PATIENTS} are needed" in said["Semiology-tonic"]
    assert "without it" in said["Semiology-versive"]
    assert heads.probabilities(vectors, "enc1").shape[1] == len(heads.card.signs)


def test_what_is_known_of_clips_and_videos():
    stored, vectors, videos, _ = cohort(patients=3)
    first, second, third = videos["v00-0"], videos["v01-0"], videos["v02-0"]
    videos["v00-0"] = replace(first, onset_s=20.0, seizure_end_s=40.0)
    videos["v01-0"] = replace(second, semiology=())  # no one has looked
    videos["v02-0"] = replace(third, semiology=(), metadata=(("background", "yes"),))
    said = [
        Feedback("v00-1", "p00", semiology=("Semiology-tonic",), start_s=10.0, end_s=28.0),
        Feedback("v00-2", "p00", semiology=("Semiology-clonic",)),
        Feedback("v01-1", "p01", event="not_a_seizure", start_s=1.0, end_s=9.0),
    ]

    examples = sign_examples("enc1", stored, vectors, videos, said)

    names = list(examples.names)
    of = {name: [n for n, clip in enumerate(examples.clips) if clip.video_id == name] for name in videos}
    assert of["v01-0"] == []
    tagged = {
        examples.clips[rows[0]].video_id: examples.tagged_VS[examples.video_N[rows[0]]] for rows in of.values() if rows
    }
    assert not tagged["v02-0"].any()
    assert tagged["v00-2"][names.index("Semiology-clonic")]
    assert tagged["v00-1"][names.index("Semiology-tonic")]
    known = examples.known_NS
    tonic = names.index("Semiology-tonic")
    assert known[of["v00-1"], tonic].tolist()[1:3] == [1.0, 1.0]
    assert np.isnan(known[of["v00-1"], tonic][[0, 3, 4]]).all()
    assert (known[of["v00-0"]][[0, 1, 4]] == 0).all()
    assert np.isnan(known[of["v00-0"]][2:4]).all()


def test_without_any_tag_it_is_said_where_tags_come_from():
    stored, vectors, videos, _ = cohort(patients=2)
    bare = {name: replace(video, semiology=()) for name, video in videos.items()}

    with pytest.raises(InvalidInput, match="column semiology, or on the review page"):
        sign_examples("enc1", stored, vectors, bare)


def test_the_same_examples_give_the_same_heads():
    stored, vectors, videos, _ = cohort(patients=16)
    one, other = (train_signs(sign_examples("enc1", stored, vectors, videos)) for _ in range(2))

    assert one.signs_id == other.signs_id


def test_features_of_a_fold_owe_nothing_to_its_test_patients():
    stored, vectors, videos, _ = cohort(patients=12)
    patients = [clip.patient_id for clip in stored]
    fold = Fold(tuple(f"p{n:02d}" for n in range(9)), tuple(f"p{n:02d}" for n in range(9, 12)))
    known = sign_examples("enc1", stored, vectors, videos)
    turned = {
        name: replace(video, semiology=("Semiology-tonic",)) if video.patient_id in fold.test else video
        for name, video in videos.items()
    }

    features = BySigns(known, vectors, patients)(fold)
    again = BySigns(sign_examples("enc1", stored, vectors, turned), vectors, patients)(fold)

    np.testing.assert_array_equal(features, again)
    assert features.shape == (len(stored), len(BySigns(known, vectors, patients).names))
    assert ((features > 0) & (features < 1)).all()


def test_a_fold_without_any_tagged_patient_says_nothing():
    stored, vectors, videos, _ = cohort(patients=6)
    bare = {name: video if video.patient_id > "p03" else replace(video, semiology=()) for name, video in videos.items()}
    patients = [clip.patient_id for clip in stored]

    features = BySigns(sign_examples("enc1", stored, vectors, bare), vectors, patients)(
        Fold(("p00", "p01", "p02"), ("p04", "p05"))
    )

    own = np.isin(patients, ["p00", "p01", "p02", "p04", "p05"])
    assert (features[own] == 0.5).all()


def test_a_patient_who_is_learned_from_has_features_of_heads_that_have_not_seen_them():
    stored, vectors, videos, _ = cohort(patients=12)
    patients = [clip.patient_id for clip in stored]
    everyone = Fold(tuple(sorted(set(patients))), ())
    turned = {
        name: replace(video, semiology=("Semiology-tonic", "Semiology-versive")) if video.patient_id == "p03" else video
        for name, video in videos.items()
    }

    features, again = (
        BySigns(sign_examples("enc1", stored, vectors, one), vectors, patients)(everyone) for one in (videos, turned)
    )

    own = np.array(patients) == "p03"
    np.testing.assert_array_equal(features[own], again[own])
    assert not np.array_equal(features[~own], again[~own])
