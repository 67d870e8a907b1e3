"""Intervals of every figure of a row hold with 15 patients, of 11 and 4, drawn from a population that is known."""

import numpy as np
import pytest

from trainer.judging.metrics import Prediction, scores

COHORTS = 300
FIGURES = ("accuracy", "balanced_accuracy", "f1", "macro_f1", "auroc")


def cohort(random, separation, of_patient):
    """11 TLE and 4 exTLE patients; a video's score is its class's, what is usual of its patient, and chance."""
    predictions = []
    for patient, label in enumerate(["TLE"] * 11 + ["exTLE"] * 4):
        usual = of_patient * random.normal()
        for video in range(random.integers(1, 8)):
            rest = (1 - of_patient**2) ** 0.5 * random.normal()
            score = separation * (0.5 if label == "exTLE" else -0.5) + usual + rest
            said = "exTLE" if score > 0 else "TLE"
            probability = 1 / (1 + np.exp(-score))
            both = (1 - probability, probability)
            predictions.append(Prediction(f"{patient}-{video}", f"{patient}", label, said, both))
    return predictions


def many(separation, of_patient):
    """The population: the patients of 3,000 cohorts."""
    random = np.random.default_rng(7)
    return [
        Prediction(f"{number}-{p.video_id}", f"{number}-{p.patient_id}", p.truth, p.verdict, p.probabilities)
        for number in range(3000)
        for p in cohort(random, separation, of_patient)
    ]


@pytest.mark.parametrize(("separation", "of_patient"), [(1.0, 0.4), (2.0, 0.7), (3.5, 0.7)])
def test_every_figure_lies_in_its_interval_19_times_of_20(separation, of_patient):
    population = scores(many(separation, of_patient))
    random = np.random.default_rng(3)
    held = dict.fromkeys(FIGURES, 0)
    for _ in range(COHORTS):
        found = scores(cohort(random, separation, of_patient))
        for figure in FIGURES:
            estimate = getattr(found, figure)
            assert estimate.low <= estimate.value <= estimate.high
            assert estimate.high - estimate.low > 0.05
            held[figure] += estimate.low <= getattr(population, figure).value <= estimate.high

    # Less two standard deviations of a count of 300.
    assert {figure: count / COHORTS for figure, count in held.items() if count / COHORTS < 0.925} == {}


def test_a_row_that_is_right_everywhere_is_not_sure_of_it():
    random = np.random.default_rng(0)
    found = scores(cohort(random, 40.0, 0.1))
    for figure in FIGURES:
        estimate = getattr(found, figure)
        assert estimate.value == 1
        assert estimate.high == 1
        assert 0.2 < estimate.low < 0.95, figure
