"""Training the head: held-out patients stay out, both classes are needed, the card says what it saw."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from encoder.head import Head
from index.errors import InvalidInput
from index.records import Clip
from trainer.judging.head import HeadConfig, HeadModel, LabelledClips, train_head


def labelled(patients=8, clips=6, gap=3.0):
    """Patients of alternating class whose clips lie apart along the first axis."""
    random = np.random.default_rng(0)
    rows = [(p, c) for p in range(patients) for c in range(clips)]
    vectors = random.normal(size=(len(rows), 8)).astype(np.float32)
    vectors[:, 0] += [gap if p % 2 else -gap for p, _ in rows]
    return LabelledClips(
        "enc1",
        [Clip(f"c{p}-{c}", f"v{p}-{c // 3}", f"p{p}", c, 10.0 * c, 10.0) for p, c in rows],
        [("TLE", "exTLE")[p % 2] for p, _ in rows],
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
    )


def test_it_learns_classes_that_lie_apart_and_judges_held_out_patients():
    data = labelled()
    head = train_head(data, HeadConfig(epochs=30), held_out=["p6", "p7"])

    for patient, label in (("p6", "TLE"), ("p7", "exTLE")):
        rows = [row for row, clip in enumerate(data.clips) if clip.patient_id == patient]
        assert head.classify(data.vectors[rows], "enc1").label == label


def test_the_card_says_what_it_was_trained_on():
    card = train_head(labelled(), HeadConfig(), held_out=["p6", "p7"]).card

    assert (card.clips, card.videos, card.patients, card.held_out_patients) == (36, 12, 6, ("p6", "p7"))
    assert (card.widths, card.class_names, card.encoder_id) == ((8, 256, 64, 2), ("TLE", "exTLE"), "enc1")


def test_held_out_clips_do_not_touch_the_head():
    data = labelled()
    spoiled = data.vectors.copy()
    spoiled[[row for row, clip in enumerate(data.clips) if clip.patient_id == "p7"]] = 1e6

    one = train_head(data, HeadConfig(), held_out=["p7"])
    two = train_head(LabelledClips("enc1", data.clips, data.labels, spoiled), HeadConfig(), held_out=["p7"])
    assert one.head_id == two.head_id


def test_the_same_seed_gives_the_same_head_and_other_data_another():
    one, two, three = (train_head(labelled(gap=gap), HeadConfig()) for gap in (3.0, 3.0, 2.0))
    assert one.head_id == two.head_id
    assert one.card.training_sha256 != three.card.training_sha256


def test_one_class_only_is_refused():
    data = labelled()
    with pytest.raises(InvalidInput, match="every class to train on, got 48 TLE, 0 exTLE"):
        train_head(LabelledClips("enc1", data.clips, ["TLE"] * 48, data.vectors), HeadConfig())


def test_an_unknown_held_out_patient_is_refused():
    with pytest.raises(InvalidInput, match="1 of 2 held-out patients"):
        train_head(labelled(), HeadConfig(), held_out=["p1", "p99"])


@pytest.mark.parametrize("widths", [(768, 2), (768, 256, 64, 2), (768, 256, 64, 5)])
def test_numpy_gives_the_logits_that_torch_gives(widths):
    torch.manual_seed(len(widths))
    model = HeadModel(widths).eval()
    card = replace(
        train_head(labelled(), HeadConfig(epochs=1)).card,
        widths=widths,
        class_names=("a", "b", "c", "d", "e")[: widths[-1]],
    )
    vectors = np.random.default_rng(0).normal(size=(500, 768)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    with torch.inference_mode():
        expected = model(torch.from_numpy(vectors)).double().numpy()

    np.testing.assert_allclose(Head(model.arrays(), card).logits(vectors), expected, rtol=0, atol=1e-6)


def test_layers_that_are_not_those_of_the_card_are_refused():
    head = train_head(labelled(), HeadConfig(epochs=1))
    for layers in ({}, {**head.layers, "layers.0.bias": np.zeros(3, np.float32)}, HeadModel((8, 2)).arrays()):
        with pytest.raises(ValueError, match="expected float32 layers"):
            Head(layers, head.card)
