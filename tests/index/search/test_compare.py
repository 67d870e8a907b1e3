"""How far two encoders agree, against plain loops."""

from dataclasses import replace

import numpy as np
import pytest

from index.errors import InvalidInput, StateError
from index.search.compare import compare
from index.tables.store import Store
from tests.conftest import commit, make_cohort


def stored_twice(workspace, cohort, turned):
    commit(workspace, cohort, "enc1")
    commit(workspace, turned, "enc2")
    store = Store(workspace)
    return store.clips("enc1"), store.clips("enc2")


def with_vectors(cohort, vector_of):
    return [(video, [replace(e, vector=vector_of(e)) for e in clips]) for video, clips in cohort]


def plain_overlap(cohort, other, k):
    first = {e.clip.clip_id: e for _, clips in cohort for e in clips}
    second = {e.clip.clip_id: e for _, clips in other for e in clips}
    both = sorted(first.keys() & second.keys())
    shares = []
    for name in both:
        sets = []
        for table in (first, second):
            others = [o for o in both if table[o].clip.patient_id != table[name].clip.patient_id]
            others.sort(key=lambda o, table=table: -float(table[o].vector @ table[name].vector))
            sets.append(set(others[:k]))
        shares.append(len(sets[0] & sets[1]) / k)
    return float(np.mean(shares))


def test_the_overlap_is_what_plain_loops_find(workspace):
    random = np.random.default_rng(8)
    cohort = make_cohort()
    other = with_vectors(cohort[1:], lambda e: _unit_of(e.vector + 0.4 * random.normal(size=8)))
    first, second = stored_twice(workspace, cohort, other)

    found = compare(first, second, k=5)

    assert found.overlap == pytest.approx(plain_overlap(cohort, other, 5))
    assert 0.2 < found.overlap < 0.9
    assert (found.clips, found.only_first, found.only_second, found.queries, found.patients) == (56, 4, 0, 56, 5)
    assert found.interval[0] < found.overlap < found.interval[1]
    assert found.by_chance == pytest.approx(np.mean([5 / n for n in [48] * 8 + [44] * 48]))


def test_an_encoder_agrees_with_a_turned_copy_of_itself(workspace):
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))
    cohort = make_cohort()
    first, second = stored_twice(workspace, cohort, with_vectors(cohort, lambda e: _unit_of(e.vector @ turn)))

    found = compare(first, second, queries=20)

    assert (found.overlap, found.interval, found.queries) == (1.0, (pytest.approx(0.38, abs=0.01), 1.0), 20)


def test_what_can_not_be_compared_says_so(workspace):
    cohort = make_cohort(patients=2)
    first, second = stored_twice(workspace, cohort[:3], cohort[3:])
    with pytest.raises(StateError, match="no clip in common"):
        compare(first, second)
    with pytest.raises(StateError, match="no clip has 10"):
        compare(first, first)
    with pytest.raises(InvalidInput):
        compare(first, second, k=0)


def _unit_of(vector):
    vector = np.asarray(vector, np.float32)
    return vector / np.linalg.norm(vector)
