"""Sign heads as files, and where signs lie in time."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.signs import SignHeads, SignsCard, load_signs, save_signs, stretches
from index.errors import DamagedData, EncoderMismatch, InvalidInput, NotFound, StateError
from index.records import Clip
from index.semiology import LearnedSign
from index.workspace import set_current


def make_heads(names=("Semiology-versive", "Semiology-tonic"), width=3, **fields):
    signs = tuple(LearnedSign(name, 6, 7, 0.8, 0.6, 0.9) for name in names)
    card = SignsCard(
        "enc1", signs, (("own", "2 patients with it: 5 are needed"),), "0" * 64, 30, 12, 10, 0, ("a",), ("b",)
    )
    weights = np.random.default_rng(0).normal(size=(len(names), width)).astype(np.float32)
    return SignHeads(weights, np.zeros(len(names), np.float32), replace(card, **fields))


def clips_at(*seconds, lasts=10.0):
    return [Clip(str(n), "v", "p", n, float(start), lasts) for n, start in enumerate(seconds)]


def test_what_was_saved_is_loaded(tmp_path):
    heads = make_heads()
    with pytest.raises(StateError, match="semiome signs train"):
        load_signs(tmp_path)
    save_signs(heads, tmp_path)
    set_current(tmp_path, heads.signs_id)

    loaded = load_signs(tmp_path)

    assert (loaded.signs_id, loaded.card) == (heads.signs_id, heads.card)
    vectors = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_array_equal(loaded.probabilities(vectors, "enc1"), heads.probabilities(vectors, "enc1"))
    odds = vectors @ heads.weights_SD.T
    np.testing.assert_allclose(heads.probabilities(vectors, "enc1"), 1 / (1 + np.exp(-odds)), rtol=1e-5)


def test_none_may_be_judged(tmp_path):
    nothing = make_heads(names=())
    save_signs(nothing, tmp_path)

    assert load_signs(tmp_path, nothing.signs_id).probabilities(np.ones((2, 3), np.float32), "enc1").shape == (2, 0)


def test_what_does_not_fit_is_refused(tmp_path):
    heads = make_heads()
    with pytest.raises(EncoderMismatch, match="belongs to encoder enc1, but encoder enc2"):
        heads.probabilities(np.ones((1, 3), np.float32), "enc2")
    with pytest.raises(InvalidInput, match=r"vectors \(N, 3\), got \(1, 4\)"):
        heads.probabilities(np.ones((1, 4), np.float32), "enc1")
    with pytest.raises(ValueError, match="weights of 2 signs"):
        SignHeads(heads.weights_SD[:1], heads.bias_S, heads.card)
    with pytest.raises(NotFound, match="check the id"):
        load_signs(tmp_path, "../../etc")


@pytest.mark.parametrize("spoil", ["", "[]", "{}", '{"signs": 3}', "changed"])
def test_a_damaged_card_is_named(tmp_path, spoil):
    heads = make_heads()
    save_signs(heads, tmp_path)
    card = tmp_path / heads.signs_id / "card.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "videos": 99}) if spoil == "changed" else spoil)

    with pytest.raises(DamagedData, match="train them again"):
        load_signs(tmp_path, heads.signs_id)


@given(
    st.lists(st.tuples(st.sampled_from([1, 2.5, 5, 10, 20]), st.floats(0, 1, width=32)), max_size=12),
    st.sampled_from([4.0, 10.0]),
)
def test_stretches_cover_just_the_seconds_of_probable_clips(steps, lasts):
    starts = np.cumsum([step for step, _ in steps]).tolist()
    clips, said = clips_at(*starts, lasts=lasts), np.array([p for _, p in steps], np.float32)

    found = stretches(clips, said)

    probable = [(clip, p) for clip, p in zip(clips, said.tolist(), strict=True) if p >= 0.5]
    for tenth in range(0, 2500):
        second = tenth / 10 + 0.05
        covered = any(clip.start_s <= second < clip.start_s + lasts for clip, _ in probable)
        assert covered == any(one.start_s <= second < one.end_s for one in found)
    assert all(a.end_s < b.start_s for a, b in itertools.pairwise(found))
    for one in found:
        within = [p for clip, p in probable if one.start_s <= clip.start_s <= one.end_s]
        assert one.probability == max(within)
