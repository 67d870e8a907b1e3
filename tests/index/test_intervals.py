"""An interval holds the truth as often as it says, with 15 patients too, and none has no width."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import stdtrit

from index.intervals import difference, share, t_quantile

COHORTS = 600


def drawn_with_replacement(sums, counts, random):
    """What came before: the quantiles of means over patients drawn with replacement."""
    chosen = random.integers(0, len(counts), (500, len(counts)))
    return np.quantile(sums[chosen].sum(1) / counts[chosen].sum(1), [0.025, 0.975])


@pytest.mark.parametrize("alike", [0.05, 0.4, 0.9], ids="videos of a patient are {} alike".format)
@pytest.mark.parametrize("truth", [0.6, 0.8, 0.93, 0.98])
def test_the_interval_of_a_share_holds_with_15_patients(truth, alike):
    random = np.random.default_rng(0)
    held = 0
    for _ in range(COHORTS):
        counts = random.integers(1, 8, 15)
        of_patient = random.beta(truth * (1 / alike - 1), (1 - truth) * (1 / alike - 1), 15)
        low, high = share(random.binomial(counts, of_patient), counts)
        held += low <= truth <= high

    assert held / COHORTS > 0.93  # 0.95, less two standard deviations of a count of 600


def test_drawing_with_replacement_does_not_hold_with_15_patients():
    random = np.random.default_rng(0)
    held = 0
    for _ in range(COHORTS):
        counts = random.integers(1, 8, 15)
        low, high = drawn_with_replacement(random.binomial(counts, random.beta(1.47, 0.03, 15)), counts, random)
        held += low <= 0.98 <= high

    assert held / COHORTS < 0.6


@pytest.mark.parametrize(("disagreeing", "gain"), [(0.02, 0.0), (0.1, 0.0), (0.3, 0.1), (0.6, 0.2), (0.1, 0.05)])
def test_the_interval_of_a_difference_holds_with_15_patients(disagreeing, gain):
    random = np.random.default_rng(1)
    chances = [(disagreeing + gain) / 2, (disagreeing - gain) / 2, 1 - disagreeing]
    held = 0
    for _ in range(COHORTS):
        counts = random.integers(1, 8, 15)
        alike = random.random(15) < 0.5
        gains = np.array(
            [
                random.choice([1, -1, 0], p=chances) * count
                if same
                else random.choice([1, -1, 0], count, p=chances).sum()
                for count, same in zip(counts, alike, strict=True)
            ]
        )
        low, high = difference(gains, counts)
        held += low <= gain <= high

    assert held / COHORTS > 0.93


GROUPS = st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1)), min_size=1, max_size=40)


@given(GROUPS)
def test_the_interval_of_a_share_has_width_and_lies_about_it(groups):
    counts = np.array([count for count, _ in groups])
    sums = counts * np.array([part for _, part in groups])
    low, high = share(sums, counts)

    assert 0 <= low <= sums.sum() / counts.sum() + 1e-12
    assert sums.sum() / counts.sum() - 1e-12 <= high <= 1
    assert high - low > 1 / (2 * counts.sum())
    mirrored = share(counts - sums, counts)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


@given(GROUPS)
def test_the_interval_of_a_difference_has_width_and_changes_sign_with_it(groups):
    counts = np.array([count for count, _ in groups])
    gains = counts * (2 * np.array([part for _, part in groups]) - 1)
    low, high = difference(gains, counts)

    assert -1 <= low < high <= 1
    assert difference(-gains, counts) == pytest.approx((-high, -low), abs=1e-9)


def test_values():
    """Everything right of 15 patients: about the 3 / 15 that the rule of three allows."""
    ones = np.ones(15)
    assert share(3 * ones, 3 * ones) == pytest.approx((0.76, 1.0), abs=0.02)
    assert share(np.array([2.0]), np.array([2.0])) == (0.0, 1.0)
    assert difference(0 * ones, ones) == pytest.approx((-2.145 / 15, 2.145 / 15), abs=1e-3)
    # Many independent ones: Wilson's own.
    many = np.arange(10_000) % 10 < 7
    assert share(many, np.ones(10_000)) == pytest.approx((0.6909, 0.7089), abs=2e-4)


@given(st.integers(1, 10_000))
def test_quantiles_are_scipys(freedom):
    assert t_quantile(freedom) == pytest.approx(stdtrit(freedom, 0.975), abs=3e-3)
