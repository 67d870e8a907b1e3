"""The baselines are the published models: parameter counts, names of weights, output shapes; and they learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from index.errors import InvalidInput
from tests.trainer.cohort import coloured_clips
from trainer.backbones.baselines import (
    SEGMENTS,
    BaselineConfig,
    Recurrent,
    backbone,
    recurrent_judge,
    scaled,
    segment_features,
    snippet_features,
)
from trainer.backbones.i3d import I3D
from trainer.backbones.r2plus1d import MEAN, STD, R2Plus1D


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("model", "published"),
    [(lambda: I3D(), 12_697_264), (lambda: R2Plus1D(18), 31_505_325), (lambda: R2Plus1D(34), 63_697_175)],
    ids=["I3D", "R(2+1)D-18", "R(2+1)D-34"],
)
def test_parameter_counts_are_the_published_ones(model, published):
    with torch.device("meta"):
        assert parameters(model()) == published


def test_weights_have_the_published_names():
    with torch.device("meta"):
        i3d, r18, r34 = (set(model.state_dict()) for model in (I3D(), R2Plus1D(18), R2Plus1D(34)))

    assert {"Conv3d_1a_7x7.conv3d.weight", "Mixed_4f.b2b.bn.running_var", "logits.conv3d.bias"} <= i3d
    assert {"stem.3.weight", "layer1.0.conv1.0.0.weight", "layer2.0.downsample.1.bias", "fc.weight"} <= r18
    assert "layer3.5.conv2.0.3.weight" in r34
    assert len([name for name in i3d if name.endswith("conv3d.weight")]) == 58


def test_batch_norms_are_those_the_weights_were_trained_with():
    with torch.device("meta"):
        for depth, eps in ((18, 1e-5), (34, 1e-3)):
            norms = [m for m in R2Plus1D(depth).modules() if isinstance(m, torch.nn.BatchNorm3d)]
            assert {norm.eps for norm in norms} == {eps}
        assert {m.eps for m in I3D().modules() if isinstance(m, torch.nn.BatchNorm3d)} == {1e-3}


def test_features_have_the_published_widths_whatever_the_size_of_a_snippet():
    for model, width in ((I3D(4), 1024), (R2Plus1D(18, 4), 512)):
        with torch.inference_mode():
            assert model.eval()(torch.randn(2, 3, 4, 32, 32)).shape == (2, width)
            assert model(torch.randn(1, 3, 9, 48, 40)).shape == (1, width)


def test_i3d_pools_two_moments_by_seven_places_before_the_mean():
    """As the original, place by place: with 3 moments left the middle one counts twice."""
    torch.manual_seed(0)
    model, left = I3D(4).eval(), []
    model.Mixed_5c.register_forward_hook(lambda module, given, made: left.append(made))
    with torch.inference_mode():
        found = model(torch.randn(2, 3, 24, 224, 224) * torch.linspace(0, 3, 24)[:, None, None])

    (x,) = left
    assert x.shape == (2, 1024, 3, 7, 7)
    windows = [x[:, :, t : t + 2].mean((2, 3, 4)) for t in range(2)]
    torch.testing.assert_close(found, (windows[0] + windows[1]) / 2, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(found, x.mean((2, 3, 4)), atol=1e-6, rtol=1e-3)


def test_i3d_halves_time_and_space_as_tensorflow_pads():
    seen = {}
    model = I3D(4).eval()
    for name in ("Conv3d_1a_7x7", "Mixed_3c", "Mixed_4f", "Mixed_5c"):
        model.get_submodule(name).register_forward_hook(
            lambda _, __, out, name=name: seen.update({name: out.shape[2:]})
        )
    with torch.inference_mode():
        model(torch.randn(1, 3, 16, 64, 64))

    assert [tuple(shape) for shape in seen.values()] == [(8, 32, 32), (8, 8, 8), (4, 4, 4), (2, 2, 2)]


@pytest.mark.parametrize("kind", ["i3d", "r2plus1d", "perez-garcia"])
def test_weights_of_a_file_are_used_and_others_refused(kind, tmp_path):
    config = BaselineConfig(kind=kind, seed=5)
    made = backbone(config, tmp_path)
    torch.save({"state_dict": made.state_dict()}, tmp_path / "weights.pth")
    named = config.model_copy(update={"weights": "weights.pth", "seed": 6})

    loaded = backbone(named, tmp_path)

    for name, tensor in made.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor)
    old = {name: t for name, t in made.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "weights.pth")
    backbone(named, tmp_path)  # files of old tools lack these counters
    assert config.title.endswith("random backbone")
    assert not named.title.endswith("random backbone")
    state = made.state_dict()
    state.pop(next(iter(state)))
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(InvalidInput, match=rf"expected the {len(state) + 1} weights of .*: 1 differ"):
        backbone(named, tmp_path)
    (tmp_path / "weights.pth").write_bytes(b"no weights")
    with pytest.raises(InvalidInput, match="can't be read as tensors only"):
        backbone(named, tmp_path)


def test_snippets_are_consecutive_and_scaled_as_the_weights_want():
    clips = coloured_clips(num_frames=7)
    config = BaselineConfig(kind="i3d", size=32, snippet_frames=3)

    class Mean(torch.nn.Module):
        def forward(self, snippets):
            return snippets.mean((2, 3, 4))

    found = snippet_features(clips, Mean(), config)

    wanted = (clips.frames[:, :6].reshape(16, 2, 3 * 32 * 32, 3).mean(2) / 255) * 2 - 1
    assert found.shape == (16, 2, 3)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    grey = scaled(torch.tensor([0.43216, 0.394666, 0.37645])[:, None, None], "r2plus1d")
    torch.testing.assert_close(grey, torch.zeros(3, 1, 1), atol=1e-6, rtol=0)


def test_longer_snippets_than_clips_are_refused():
    with pytest.raises(InvalidInput, match="snippets of at most 4 frames, got 16"):
        snippet_features(coloured_clips(), torch.nn.Identity(), BaselineConfig(kind="i3d"))


class First(torch.nn.Module):
    """The first channel of each of a snippet's frames: says which frames it was given."""

    def forward(self, snippets):
        return snippets[:, 0, :, 0, 0]


def numbered_clips(clips, frames=10, begins=None):
    """Videos of which each frame shows its number in the video."""
    made = coloured_clips(patients=2, videos=1, clips=clips, num_frames=frames, size=32)
    described = [replace(clip, begins_s=None if begins is None else begins[clip.clip_index]) for clip in made.clips]
    for row, clip in enumerate(described):
        at = clip.start_s + (np.arange(frames) + 0.5) * 10 / frames
        made.frames[row] = np.floor(at * frames / 10)[:, None, None, None]
    return replace(made, clips=tuple(described))


def frames_shown(features):
    """Numbers of the frames that snippets were made of."""
    return np.rint((features * STD[0] + MEAN[0]) * 255).astype(int)


@pytest.mark.parametrize("starts", [None, 2])
def test_a_segments_snippets_are_of_successive_frames_and_begin_at_any_of_it(starts):
    """Perez-Garcia: 48 frames are 16 segments of 3; the last segments begin early enough to end in the video."""
    config = BaselineConfig(kind="perez-garcia", size=32, starts=starts)
    found = frames_shown(segment_features(numbered_clips(4, frames=12), First(), config))

    assert found.shape == (2, SEGMENTS, 3 if starts is None else 2, 8)
    assert (np.diff(found, axis=-1) == 1).all()
    begins = found[0, :, :, 0]
    if starts is None:
        assert begins[:13].tolist() == [[3 * s, 3 * s + 1, 3 * s + 2] for s in range(13)]
        assert (begins[13:] >= 39).all()
    assert (begins.max(), found.max()) == (40, 47)


def test_frames_that_clips_share_are_not_seen_twice():
    """The last clip overlaps the one before by 4 s."""
    config = BaselineConfig(kind="perez-garcia", size=32)
    found = frames_shown(segment_features(numbered_clips(3, frames=20, begins=[0.0, 10.0, 16.0]), First(), config))

    assert (np.diff(found, axis=-1) == 1).all()
    assert found.max() == 51


def test_perez_garcia_is_trained_as_its_authors_did_unless_told_otherwise():
    config = BaselineConfig(kind="perez-garcia")
    assert (config.snippet_frames, config.learning_rate, config.epochs) == (8, 1e-2, 400)
    assert BaselineConfig(kind="perez-garcia", epochs=3).epochs == 3
    assert config.titled(150) == "Perez-Garcia, random backbone"
    assert config.titled(48) == "Perez-Garcia, random backbone, 4.8 frames a second"


def test_weights_of_another_digest_are_refused(tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"some weights")
    config = BaselineConfig(kind="r2plus1d", weights="weights.pth", sha256="91a641e6")
    with pytest.raises(InvalidInput, match=r"expected weights of SHA-256 91a641e6…, got \w{16}…: fetch the file again"):
        backbone(config, tmp_path)


@pytest.mark.parametrize(("kind", "shape"), [("r2plus1d", (5, 12)), ("perez-garcia", (SEGMENTS, 3, 12))])
def test_an_lstm_learns_an_order_that_means_say_nothing_of(kind, shape):
    random = np.random.default_rng(0)
    features = random.normal(0, 0.1, (80, *shape)).astype(np.float32)
    classes = np.arange(80) % 2
    length = shape[0]
    ramp = np.linspace(-1, 1, length, dtype=np.float32).reshape(length, *[1] * (len(shape) - 1))
    features += np.where(classes.reshape(-1, *[1] * len(shape)), ramp, -ramp)

    judge = recurrent_judge(BaselineConfig(kind=kind, hidden=16, epochs=30, learning_rate=1e-2))
    found = judge(features[:60], classes[:60], features[60:])

    assert (found.argmax(1) == classes[60:]).mean() > 0.9
    assert Recurrent(12, 64, 3, both_ways=True)(torch.zeros(2, 16, 12)).shape == (2, 3)
