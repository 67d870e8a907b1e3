"""The view `change`, against the same written out moment by moment, and what it can't see."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.model.architecture import architecture
from encoder.model.embed import Embedder
from encoder.model.folder import load_encoder, save_encoder
from encoder.model.identity import new_encoder
from encoder.model.timesformer import normalise
from encoder.model.views import viewed
from index.errors import InvalidInput


def frames(clips=2, moments=3, each=4, size=16, seed=0):
    """Noise, with a square that comes and goes quickly in one clip and slowly in the other."""
    random = np.random.default_rng(seed)
    made = random.integers(90, 110, (clips, moments * each, size, size, 3))
    for moment in range(moments * each):
        made[0, moment, 2:6, 2:6] += 60 * (moment % 2)
        made[1, moment, 8:12, 8:12] += 60 * (moment // each % 2)
    return made.astype(np.uint8)


def written_out(clip_THWC, each):
    grey = (clip_THWC.astype(float) / 255 - 0.45) / 0.225 @ [0.299, 0.587, 0.114]
    moved = grey - grey.mean(0)
    moved = moved / max(moved.std(ddof=1), 0.02)
    small = grey.reshape(len(grey), grey.shape[1] // 2, 2, grey.shape[2] // 2, 2).mean((2, 4))
    means = small.reshape(-1, each, *small.shape[1:]).mean(1)

    def changed(pictures):
        change = np.abs(np.diff(pictures, axis=0))
        change = np.concatenate([change[:1], change])
        ordered = np.sort(change, axis=None)
        return change / max(ordered[(len(ordered) - 1) // 2], 1e-3)

    quick = changed(small).reshape(-1, each, *small.shape[1:]).mean(1)
    told = [np.log1p(change).repeat(2, 1).repeat(2, 2) - 0.8 for change in (quick, changed(means))]
    return np.stack([moved[each // 2 :: each], *told], axis=1)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([(2, 2), (3, 4), (5, 3)]))
def test_each_moment_has_its_picture_its_quick_and_its_slow_changes(seed, shape):
    moments, each = shape
    made = frames(moments=moments, each=each, seed=seed)

    found = viewed(normalise(torch.from_numpy(made)), "change", each)

    assert found.shape == (2, moments, 3, 16, 16)
    for clip, of_clip in zip(made, found, strict=True):
        np.testing.assert_allclose(of_clip.numpy(), written_out(clip, each), atol=2e-3)


def test_quick_and_slow_movements_are_told_apart():
    found = viewed(normalise(torch.from_numpy(frames())), "change", 4)
    quick, slow = found[:, :, 1].mean(1), found[:, :, 2].mean(1)

    assert quick[0, 2:6, 2:6].mean() > quick[0, 8:12, 8:12].mean() + 1
    assert slow[1, 8:12, 8:12].mean() > slow[1, 2:6, 2:6].mean() + 1
    assert abs(slow[0, 2:6, 2:6].mean() - slow[0, 8:12, 8:12].mean()) < 1


def test_neither_the_room_nor_how_light_it_is_changes_the_view():
    clip = normalise(torch.from_numpy(frames(seed=3)))
    room = torch.rand(1, 1, 1, 16, 16, generator=torch.Generator().manual_seed(0))

    for other in (0.5 * clip, clip + room, 1.5 * clip - 0.3):
        torch.testing.assert_close(viewed(other, "change", 4), viewed(clip, "change", 4), atol=2e-3, rtol=1e-3)


def test_an_encoder_with_this_view_is_saved_whole_and_embeds_as_its_model_does(tmp_path):
    shape = architecture(12, 32, 32, 2, 2, embedding_dim=48, input_view="change", frames_a_moment=4)
    encoder = new_encoder(shape, seed=0)
    with torch.no_grad():
        for parameter in encoder.model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    encoder = load_encoder(save_encoder(new_encoder(shape, seed=0), tmp_path))
    made = frames(size=32)

    assert encoder.encoder_id == new_encoder(shape, seed=0).encoder_id
    assert (encoder.model.input_view, encoder.model.frames_a_moment) == ("change", 4)
    assert encoder.model.embeddings.time_embeddings.shape == (1, 3, 32)
    with torch.no_grad():
        wanted = torch.nn.functional.normalize(encoder.model(normalise(torch.from_numpy(made))), dim=1)
    np.testing.assert_allclose(Embedder(encoder).embed(list(made)), wanted.numpy(), atol=1e-5)
    other = new_encoder(architecture(12, 32, 32, 2, 2, embedding_dim=48, input_view="change", frames_a_moment=3), 0)
    assert other.encoder_id != encoder.encoder_id


@pytest.mark.parametrize(
    ("view", "each", "said"),
    [
        ("change", 1, "at least 2 frames a moment that divide 12 frames, got 1"),
        ("change", 5, "at least 2 frames a moment that divide 12 frames, got 5"),
        ("change", 12, "at least 2 frames a moment that divide 12 frames, got 12"),
        ("rgb", 4, "expected 1 frames a moment that divide 12 frames, got 4"),
        ("infrared", 1, "expected an input view of rgb, motion, change, got 'infrared'"),
    ],
)
def test_moments_that_frames_do_not_make_are_refused(view, each, said):
    with pytest.raises(InvalidInput, match=said):
        architecture(12, 32, 32, 2, 2, input_view=view, frames_a_moment=each)
