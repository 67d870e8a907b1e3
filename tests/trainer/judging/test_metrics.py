"""Figures against scikit-learn and closed forms; intervals and tests have the patient as their unit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from index.semiology import Classes
from trainer.judging.metrics import Difference, Prediction, curves, difference, reliability, scores


def predictions(truth, probability, patients=None):
    names = patients or [f"p{i}" for i in range(len(truth))]
    return [
        Prediction(f"v{i}", name, ("TLE", "exTLE")[t], ("TLE", "exTLE")[int(p >= 0.5)], (1 - p, p), fold=i % 2)
        for i, (t, p, name) in enumerate(zip(truth, probability, names, strict=True))
    ]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 10)), min_size=3, max_size=40))
def test_figures_equal_scikit_learns(pairs):
    truth, probability = np.array([t for t, _ in pairs]), np.array([p / 10 for _, p in pairs])
    said = (probability >= 0.5).astype(int)

    found = scores(predictions(truth, probability))

    assert found.accuracy.value == pytest.approx(metrics.accuracy_score(truth, said))
    assert found.f1.value == pytest.approx(metrics.f1_score(truth, said, zero_division=0))
    assert found.confusion == tuple(map(tuple, metrics.confusion_matrix(truth, said, labels=[0, 1]).tolist()))
    if 0 < truth.sum() < len(truth):
        assert found.balanced_accuracy.value == pytest.approx(metrics.balanced_accuracy_score(truth, said))
        assert found.macro_f1.value == pytest.approx(metrics.f1_score(truth, said, average="macro", zero_division=0))
        assert found.auroc.value == pytest.approx(metrics.roc_auc_score(truth, probability))
    assert found.majority == pytest.approx(max(truth.mean(), 1 - truth.mean()))


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 5), st.data())
def test_figures_of_more_classes_equal_scikit_learns(classes, data):
    names = tuple(f"c{n}" for n in range(classes))
    truth = data.draw(st.lists(st.integers(0, classes - 1), min_size=classes, max_size=30))
    truth[:classes] = range(classes)
    weights = np.random.default_rng(data.draw(st.integers(0, 99))).dirichlet(np.ones(classes), len(truth))
    said = weights.argmax(1)
    videos = [
        Prediction(f"v{i}", f"p{i % 7}", names[t], names[s], tuple(w))
        for i, (t, s, w) in enumerate(zip(truth, said.tolist(), weights.tolist(), strict=True))
    ]

    found, singled_out = scores(videos, Classes(names)), scores(videos, Classes(names, "c1"))

    assert found.confusion == tuple(map(tuple, metrics.confusion_matrix(truth, said, labels=range(classes)).tolist()))
    assert found.balanced_accuracy.value == pytest.approx(metrics.balanced_accuracy_score(truth, said))
    assert found.macro_f1.value == pytest.approx(metrics.f1_score(truth, said, average="macro", zero_division=0))
    assert found.auroc.value == pytest.approx(
        metrics.roc_auc_score(truth, weights, multi_class="ovr", labels=range(classes))
    )
    assert (found.f1, found.majority) == (None, max(np.bincount(truth)) / len(truth))
    of_one = np.array(truth) == 1
    assert singled_out.f1.value == pytest.approx(metrics.f1_score(of_one, said == 1, zero_division=0))
    assert singled_out.auroc.value == pytest.approx(metrics.roc_auc_score(of_one, weights[:, 1]))
    for one in (found.accuracy, found.balanced_accuracy, found.macro_f1, found.auroc, singled_out.f1):
        assert one.low <= one.value <= one.high
        assert one.high - one.low > 0.05


def test_the_papers_confusion_gives_the_papers_figures():
    """Li et al., both levels: TP 15, FN 0, FP 4 of 57 videos."""
    truth = [1] * 15 + [0] * 42
    found = scores(predictions(truth, [0.9] * 19 + [0.1] * 38))

    assert found.accuracy.value == pytest.approx(0.930, abs=5e-4)
    assert found.f1.value == pytest.approx(0.882, abs=5e-4)
    assert found.majority == pytest.approx(0.737, abs=5e-4)
    assert (found.accuracy.low, found.accuracy.high) == (pytest.approx(0.83, abs=0.05), pytest.approx(0.98, abs=0.03))


def test_the_interval_is_over_patients_not_videos():
    """Ten videos of one patient say no more than one."""
    truth, said = [1, 0] * 10, [0.9, 0.1] * 5 + [0.1, 0.9] * 5
    two = scores(predictions(truth, said, ["a"] * 10 + ["b"] * 10))
    twenty = scores(predictions(truth, said))

    assert (two.accuracy.low, two.accuracy.high) == (pytest.approx(0, abs=0.01), pytest.approx(1, abs=0.01))
    assert (two.videos, two.patients) == (20, 2)
    assert (twenty.accuracy.low, twenty.accuracy.high) == (pytest.approx(0.3, abs=0.06), pytest.approx(0.7, abs=0.06))
    assert two.accuracy_by_fold == (0.5, 0.5)


def test_a_difference_of_chance_has_a_large_p_and_a_real_one_a_small():
    truth = [i % 2 for i in range(40)]
    right, wrong = [0.9 if t else 0.1 for t in truth], [0.1 if t else 0.9 for t in truth]
    half = [r if i % 4 < 2 else w for i, (r, w) in enumerate(zip(right, wrong, strict=True))]
    other = [w if i % 4 < 2 else r for i, (r, w) in enumerate(zip(right, wrong, strict=True))]

    real = difference(predictions(truth, right), predictions(truth, half))
    none = difference(predictions(truth, half), predictions(truth, other))
    one_patient = difference(predictions(truth, right, ["a"] * 40), predictions(truth, half, ["a"] * 40))

    assert (real.value, none.value) == (0.5, 0.0)
    assert real.p < 0.01
    assert real.low > 0.3
    assert none.p == 1.0
    assert one_patient.p == 1.0  # one patient can show nothing


def test_the_permutation_test_keeps_its_level():
    """Two rows that are right by the same chance differ with p below 0.05 in about 5 % of cohorts."""
    random = np.random.default_rng(0)
    patients = [f"p{i // 3}" for i in range(60)]
    ps = []
    for _ in range(200):
        truth = random.integers(0, 2, 60).tolist()
        rows = [predictions(truth, random.random(60).tolist(), patients) for _ in range(2)]
        ps.append(difference(*rows, draws=200).p)

    assert np.mean(np.array(ps) < 0.05) < 0.1


def test_rows_of_different_videos_are_not_compared():
    with pytest.raises(ValueError, match="same videos in the same order"):
        difference(predictions([0, 1], [0.1, 0.9]), predictions([0, 1], [0.1, 0.9])[::-1])


def test_curves_and_reliability_of_a_perfect_judge():
    perfect = predictions([0, 0, 1, 1], [0.05, 0.1, 0.9, 0.95])

    assert [0.0, 1.0] in curves(perfect, "exTLE")["roc"]
    assert [1.0, 1.0] in curves(perfect, "exTLE")["precision_recall"]
    assert curves(predictions([0, 0], [0.1, 0.2]), "exTLE") == {"roc": [], "precision_recall": []}
    assert reliability(perfect, "exTLE") == [(pytest.approx(0.075), 0.0, 2), (pytest.approx(0.925), 1.0, 2)]


@pytest.mark.parametrize(("p", "shown"), [(0.0005, "< 0.001"), (0.001, "0.001"), (0.0123, "0.012"), (1.0, "1.000")])
def test_a_small_p_is_not_shown_as_none(p, shown):
    assert Difference(0.1, 0.0, 0.2, p).shown_p == shown
