"""The head: votes, ties, identity, refusals."""

import json

import numpy as np
import pytest

from encoder.head import Head, HeadCard, load_head, save_head, vote
from index.errors import DamagedData, EncoderMismatch, InvalidInput, NotFound, StateError
from index.records import ClipVerdict, Verdict
from index.workspace import set_current


def make_head(**fields):
    """A head whose probability of exTLE is sigmoid(first value)."""
    card = {
        "widths": (2, 2),
        "class_names": ("TLE", "exTLE"),
        "threshold": 0.5,
        "temperature": 1.0,
        "encoder_id": "enc1",
        "training_sha256": "0" * 64,
        "clips": 1,
        "videos": 1,
        "patients": 1,
        "held_out_patients": ("p1",),
        "seed": 0,
        "epochs": 1,
    }
    layers = {
        "layers.0.weight": np.array([[0.0, 0.0], [1.0, 0.0]], np.float32),
        "layers.0.bias": np.zeros(2, np.float32),
    }
    return Head(layers, HeadCard(**{**card, **fields}))


def logit(*probabilities):
    p = np.array(probabilities)
    return np.stack([np.log(p / (1 - p)), np.zeros_like(p)], 1).astype(np.float32)


def test_the_majority_of_clips_decides():
    verdict = make_head().classify(logit(0.9, 0.4, 0.3), "enc1")

    assert verdict == Verdict(
        label="TLE",
        classes=("TLE", "exTLE"),
        probabilities=pytest.approx((1.4 / 3, 1.6 / 3)),
        votes=(2, 1),
        tie=False,
        clips=tuple(
            ClipVerdict(pytest.approx((1 - p, p)), label) for p, label in ((0.9, "exTLE"), (0.4, "TLE"), (0.3, "TLE"))
        ),
    )
    assert verdict.margin == 1


@pytest.mark.parametrize(
    ("clips", "label", "votes", "tie"),
    [
        (((8, 1, 1), (1, 8, 1), (1, 8, 1)), "b", (1, 2, 0), False),
        (((6, 4, 0), (6, 4, 0), (0, 4, 6), (0, 4, 6)), "c", (2, 0, 2), True),  # as likely: the last
        (((6, 4, 0), (6, 4, 0), (0, 5, 5), (0, 5, 5)), "a", (2, 0, 2), True),  # b is likelier, and has no vote
        (((5, 5, 0),), "b", (0, 1, 0), False),
    ],
)
def test_of_several_classes_the_one_with_most_votes_wins(clips, label, votes, tie):
    verdict = vote(np.array(clips) / 10, ("a", "b", "c"))

    assert (verdict.label, verdict.votes, verdict.tie) == (label, votes, tie)


@pytest.mark.parametrize(
    ("probabilities", "label"), [((0.9, 0.4), "exTLE"), ((0.55, 0.1), "TLE"), ((0.75, 0.25), "exTLE")]
)
def test_the_mean_probability_decides_a_tie(probabilities, label):
    verdict = make_head().classify(logit(*probabilities), "enc1")

    assert (verdict.label, verdict.votes, verdict.tie) == (label, (1, 1), True)


def test_the_temperature_of_the_card_is_used():
    assert make_head(temperature=2.0).probabilities(logit(0.9))[0] == pytest.approx((0.25, 0.75))


def test_each_class_has_a_name():
    with pytest.raises(ValueError, match="a name for each of 2 classes, got 3"):
        make_head(class_names=("a", "b", "c"))


def test_vectors_of_another_encoder_are_refused_by_name():
    with pytest.raises(EncoderMismatch, match="belongs to encoder enc1, but encoder enc2 is in use"):
        make_head().classify(logit(0.9), "enc2")


@pytest.mark.parametrize("shape", [(0, 2), (1, 3), (2,)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(InvalidInput, match=r"expected vectors \(N, 2\)"):
        make_head().probabilities(np.zeros(shape, np.float32))


def test_a_saved_head_loads_as_itself(tmp_path):
    head = make_head()
    with pytest.raises(StateError, match="semiome head train"):
        load_head(tmp_path)
    save_head(head, tmp_path)
    set_current(tmp_path, head.head_id)

    loaded = load_head(tmp_path)
    assert (loaded.head_id, loaded.card) == (head.head_id, head.card)
    assert loaded.classify(logit(0.9, 0.2), "enc1") == head.classify(logit(0.9, 0.2), "enc1")


def test_a_changed_or_damaged_head_is_refused(tmp_path):
    head = make_head()
    save_head(head, tmp_path)
    card = tmp_path / head.head_id / "card.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "threshold": 0.1}))
    with pytest.raises(DamagedData, match="not what was saved"):
        load_head(tmp_path, head.head_id)
    weights = tmp_path / head.head_id / "head.safetensors"
    header = b'{"layers.0.bias":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}'
    odd = len(header).to_bytes(8, "little") + header + b"xx"
    for path, content in ((card, b"{"), (card, b"null"), (card, b"[]"), (weights, b"x"), (weights, odd)):
        save_head(head, tmp_path)
        path.write_bytes(content)
        with pytest.raises(DamagedData, match="can't be read"):
            load_head(tmp_path, head.head_id)


@pytest.mark.parametrize("name", ["absent", "../x"])
def test_an_unknown_head_is_not_found(tmp_path, name):
    with pytest.raises(NotFound):
        load_head(tmp_path, name)
