"""Temperature, and conformal sets that keep their promise."""

import math
from dataclasses import replace

import numpy as np
import pytest

from encoder.head import Conformal, load_head, save_head, vote
from index.errors import InvalidInput
from tests.trainer.judging.test_head import labelled
from tests.trainer.judging.test_metrics import predictions
from trainer.judging.calibrate import calibrated, conformal, needed_patients, temperature
from trainer.judging.head import HeadConfig, train_head


def verdict_of(extle):
    """On a video whose only clip is exTLE with this probability."""
    return vote(np.array([[1 - extle, extle]]), ("TLE", "exTLE"))


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_that_spoiled_the_logits_is_found(true, classes):
    random = np.random.default_rng(0)
    honest = random.normal(0, 2, (20_000, classes))
    drawn = (honest + random.gumbel(size=honest.shape)).argmax(1)  # with the softmax as their probabilities

    assert temperature(honest * true, drawn) == pytest.approx(true, rel=0.05)


def test_a_judge_that_knows_nothing_is_cooled_to_the_limit():
    random = np.random.default_rng(0)
    assert temperature(random.normal(0, 5, (2000, 2)), random.integers(0, 2, 2000)) > 20


def test_two_classes_are_calibrated_as_platt_calibrates_them():
    """The targets of one class against the other, with the log odds between them."""
    random = np.random.default_rng(1)
    logits, targets = random.normal(0, 3, (40, 2)), random.integers(0, 2, 40)
    positives = int(targets.sum())
    wanted = np.where(targets == 1, (positives + 1) / (positives + 2), 1 / (40 - positives + 2))
    odds = logits[:, 1] - logits[:, 0]

    def loss(found):
        p = 1 / (1 + np.exp(-odds / found))
        return -(wanted * np.log(p) + (1 - wanted) * np.log(1 - p)).mean()

    found = temperature(logits, targets)

    assert loss(found) <= min(loss(found * factor) for factor in (0.99, 1.01)) + 1e-9


@pytest.mark.parametrize(("alpha", "needed"), [(0.1, 9), (0.05, 19), (0.2, 4), (0.5, 1), (0.3, 3)])
def test_an_alpha_that_the_patients_can_not_support_is_refused_with_the_number_it_needs(alpha, needed):
    truth = [0] * needed + [1] * needed
    assert needed_patients(alpha) == needed
    assert conformal(predictions(truth, [0.5] * len(truth)), alpha).patients == (needed, needed)

    truth = truth[1:]
    with pytest.raises(InvalidInput, match=f"needs {needed} patients of each class, got {needed - 1} with TLE"):
        conformal(predictions(truth, [0.5] * len(truth)), alpha)


@pytest.mark.parametrize("alpha", [0.1, 0.25])
def test_sets_hold_the_true_class_of_new_patients_as_often_as_they_promise(alpha):
    """All videos of a new patient, by class: exactly ceil((n + 1)(1 - alpha)) / (n + 1) over calibrations."""
    random = np.random.default_rng(1)
    patients, trials = 19, 3000

    def cohort(count):
        """Videos of one patient resemble each other; classes differ in difficulty."""
        truth = [i % 2 for i in range(2 * count) for _ in range(3)]
        names = [f"p{i}" for i in range(2 * count) for _ in range(3)]
        style = np.repeat(random.normal(0, 1, 2 * count), 3)
        logit = np.where(truth, 1.0, -0.4) + style + random.normal(0, 0.5, len(truth))
        return predictions(truth, (1 / (1 + np.exp(-logit))).tolist(), names)

    held = {"TLE": 0, "exTLE": 0}
    for _ in range(trials):
        found = conformal(cohort(patients), alpha)
        for label in held:
            new = [p for p in cohort(1) if p.truth == label]
            held[label] += all(label in found.prediction_set(verdict_of(p.probabilities[1])) for p in new)

    promised = math.ceil((patients + 1) * (1 - alpha)) / (patients + 1)
    error = 3 * math.sqrt(promised * (1 - promised) / trials)
    for label, count in held.items():
        assert count / trials == pytest.approx(promised, abs=error), label


def test_a_set_is_one_class_both_or_none():
    sure, unsure = Conformal(0.1, (0.3, 0.3), (9, 9)), Conformal(0.1, (0.6, 0.7), (9, 9))

    assert [sure.prediction_set(verdict_of(p)) for p in (0.1, 0.9, 0.5)] == [("TLE",), ("exTLE",), ()]
    assert unsure.prediction_set(verdict_of(0.5)) == ("TLE", "exTLE")


@pytest.mark.parametrize("alpha", [0, 1, -0.1])
def test_an_alpha_out_of_bounds_is_refused(alpha):
    with pytest.raises(InvalidInput, match="an alpha between 0 and 1"):
        conformal(predictions([0, 1], [0.1, 0.9]), alpha)


def test_a_head_is_calibrated_on_patients_its_likes_have_not_seen():
    data, config = labelled(patients=20, gap=1.0), HeadConfig(epochs=30)
    head = train_head(data, config, held_out=["p18", "p19"])

    found = calibrated(head, data, config)

    for name, values in head.layers.items():
        np.testing.assert_array_equal(found.layers[name], values)
    assert found.card.temperature > 1.2  # heads are too sure of patients they have not seen
    assert (found.card.conformal.alpha, found.card.conformal.patients) == (0.1, (9, 9))
    assert found.head_id != head.head_id
    assert replace(found.card, temperature=1.0, conformal=None) == head.card
    logits, cooled = (np.log(p[:, 1] / p[:, 0]) for p in (one.probabilities(data.vectors[:6]) for one in (head, found)))
    np.testing.assert_allclose(cooled * found.card.temperature, logits, rtol=1e-3)


def test_with_few_patients_there_is_a_temperature_and_no_set_unless_one_was_asked_for():
    data, config = labelled(patients=8), HeadConfig()
    head = train_head(data, config)

    assert calibrated(head, data, config).card.conformal is None
    assert calibrated(head, data, config, alpha=0.25).card.conformal.patients == (4, 4)
    with pytest.raises(InvalidInput, match=r"alpha 0.05 needs 19 patients of each class, got 4 with TLE .* is 0.2$"):
        calibrated(head, data, config, alpha=0.05)


def test_one_patient_of_a_class_allows_nothing():
    data, config = labelled(patients=3), HeadConfig()
    head = train_head(data, config)

    assert calibrated(head, data, config) is head
    with pytest.raises(InvalidInput, match="expected 2 patients of each class to calibrate on, got 1"):
        calibrated(head, data, config, alpha=0.5)


def test_conformal_limits_are_saved_with_the_head(tmp_path):
    data, config = labelled(patients=20), HeadConfig()
    head = calibrated(train_head(data, config), data, config)

    save_head(head, tmp_path)

    assert load_head(tmp_path, head.head_id).card == head.card
