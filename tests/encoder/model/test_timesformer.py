"""The model equals the original's numbers and transformers', and takes no other shape."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import TimesformerModel

from encoder.model.architecture import PRESETS, architecture, preset
from encoder.model.embed import Embedder, advised_precision, threads_beside
from encoder.model.folder import load_encoder, save_encoder
from encoder.model.identity import encoder_id_of, new_encoder, with_precision
from encoder.model.inference import Prepared, Product, flop_of_clip
from encoder.model.original import import_pyth
from encoder.model.timesformer import TimeSformer, normalise
from index.errors import InvalidInput
from tests.conftest import DATA, tiny_architecture

ORACLE = np.load(DATA / "timesformer" / "tiny_96d_12f_io.npz")


def test_embeddings_equal_the_original_code():
    encoder = import_pyth(DATA / "timesformer" / "tiny_96d_12f.pyth", num_attention_heads=4)
    frames = torch.from_numpy(ORACLE["frames_uint8_BTHWC"])

    with torch.inference_mode():
        embedding_BD = encoder.model(normalise(frames)).numpy()

    np.testing.assert_allclose(embedding_BD, ORACLE["embedding_BD"], atol=1e-5)


@pytest.mark.parametrize("name", ["tiny_96d_12f.pyth", "tiny_96d_12f_module_prefix.pth"])
def test_the_prepared_forward_equals_the_original_code(name):
    encoder = import_pyth(DATA / "timesformer" / name, num_attention_heads=4)
    prepared = Prepared(encoder.model, torch.float32)

    found_BD = np.stack([prepared.embed(torch.from_numpy(frames)).numpy() for frames in ORACLE["frames_uint8_BTHWC"]])
    np.testing.assert_allclose(found_BD, ORACLE["embedding_BD"], atol=1e-5)


@pytest.mark.parametrize(
    "shape",
    [
        preset("timesformer-demo"),  # the motion view, and a projection
        architecture(5, 48, 64, 1, 2),  # one layer
        architecture(48, 112, 64, 3, 4, embedding_dim=64),  # more tokens than a block, and a rest in each direction
    ],
    ids=["demo", "one layer", "blocks"],
)
def test_the_prepared_forward_equals_the_plain_one(shape):
    torch.manual_seed(0)
    model = TimeSformer(shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    frames = torch.randint(0, 256, (2, shape.num_frames, shape.image_size, shape.image_size, 3), dtype=torch.uint8)
    with torch.inference_mode():
        wanted_BD = model(normalise(frames))

    prepared = Prepared(model, torch.float32)
    found_BD = torch.stack([prepared.embed(clip) for clip in frames])
    torch.testing.assert_close(found_BD, wanted_BD, atol=1e-5, rtol=1e-5)
    short = Prepared(model, torch.bfloat16)
    rounded_BD = torch.stack([short.embed(clip) for clip in frames])
    assert torch.nn.functional.cosine_similarity(rounded_BD, wanted_BD).min() > 0.999


@pytest.mark.parametrize("onednn", [True, False], ids=["packed", "a build without oneDNN"])
@pytest.mark.parametrize("gelu", [True, False])
def test_a_product_is_the_linear_map_whoever_computes_it(gelu, onednn, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)
    torch.manual_seed(0)
    linear, x = torch.nn.Linear(96, 40), torch.randn(3, 50, 96)
    with torch.inference_mode():
        wanted = torch.nn.functional.gelu(linear(x)) if gelu else linear(x)

        found = Product(linear.weight, linear.bias, gelu=gelu)(x)
        short = linear.to(torch.bfloat16)
        rounded = Product(short.weight, short.bias, gelu=gelu)(x.bfloat16())

    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rounded.float(), wanted, atol=0.02, rtol=0.02)


def test_a_processor_without_bf16_kernels_computes_all_the_same():
    code = """
import torch
from encoder.model.embed import advised_precision
from encoder.model.inference import Product
from encoder.model.architecture import preset
linear, x = torch.nn.Linear(64, 32).bfloat16(), torch.randn(8, 64).bfloat16()
with torch.inference_mode():
    torch.testing.assert_close(Product(linear.weight, linear.bias)(x), linear(x), atol=0.02, rtol=0.02)
print(advised_precision(preset("timesformer-l"), "cpu")[0])
"""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)

    assert (done.returncode, done.stdout.strip()) == (0, "fp32"), done.stderr


def test_bf16_finds_the_same_neighbours():
    """Among 200 clips of the simulated kind: blobs that move."""
    encoder = import_pyth(DATA / "timesformer" / "tiny_96d_12f.pyth", num_attention_heads=4)
    random = np.random.default_rng(0)
    frames = [moving_blob(random, 12, 64) for _ in range(200)]
    exact, short = (Embedder(encoder, precision=precision).embed(frames) for precision in ("fp32", "bf16"))

    wanted, found = (np.argsort(-(vectors @ vectors.T), axis=1)[:, 1:11] for vectors in (exact, short))
    kept = [len(set(a) & set(b)) for a, b in zip(wanted, found, strict=True)]
    assert np.mean(kept) >= 9.8
    assert (exact * short).sum(1).min() > 0.999


def moving_blob(random, count, size):
    """(T, S, S, 3) uint8: a bright spot on a line through a room of one colour."""
    y, x = np.mgrid[:size, :size]
    start, end = random.uniform(0, size, (2, 2))
    colour, room = random.uniform(0, 255, (2, 3))
    spread = random.uniform(4, 16)
    frames = []
    for moment in np.linspace(0, 1, count):
        at = start + moment * (end - start)
        weight = np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / (2 * spread**2))[..., None]
        frames.append(weight * colour + (1 - weight) * room)
    return np.stack(frames).astype(np.uint8)


def test_embeddings_equal_transformers(tmp_path):
    """On weights where attention along time counts: an untrained `temporal_dense` is zero."""
    encoder = import_pyth(DATA / "timesformer" / "tiny_96d_12f.pyth", num_attention_heads=4)
    frames = normalise(torch.from_numpy(ORACLE["frames_uint8_BTHWC"]))
    theirs = TimesformerModel.from_pretrained(save_encoder(encoder, tmp_path)).eval()

    with torch.inference_mode():
        theirs_BD = theirs(frames).last_hidden_state[:, 0]
        torch.testing.assert_close(encoder.model(frames), theirs_BD, atol=1e-5, rtol=1e-5)


def test_gradients_equal_transformers(tmp_path):
    encoder = import_pyth(DATA / "timesformer" / "tiny_96d_12f.pyth", num_attention_heads=4)
    frames = normalise(torch.from_numpy(ORACLE["frames_uint8_BTHWC"]))
    theirs = TimesformerModel.from_pretrained(save_encoder(encoder, tmp_path)).train()
    ours = encoder.model.train().requires_grad_()
    weight_BD = torch.randn(len(frames), 96, generator=torch.Generator().manual_seed(0))

    (ours(frames) * weight_BD).sum().backward()
    (theirs(frames).last_hidden_state[:, 0] * weight_BD).sum().backward()

    wanted = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    found = {name: parameter.grad for name, parameter in ours.named_parameters()}
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-4 * float(gradient.abs().max()), msg=name)


def test_bf16_points_the_same_way():
    encoder = import_pyth(DATA / "timesformer" / "tiny_96d_12f.pyth", num_attention_heads=4)
    frames = list(ORACLE["frames_uint8_BTHWC"])
    exact = Embedder(encoder).embed(frames)
    short = Embedder(encoder, precision="bf16").embed(frames)

    assert (exact * short).sum(1).min() > 0.999


def test_running_in_bf16_leaves_the_encoder_as_it_is(tiny_encoder):
    Embedder(tiny_encoder, precision="bf16")

    assert encoder_id_of(tiny_encoder.model) == tiny_encoder.encoder_id
    assert {p.dtype for p in tiny_encoder.model.parameters()} == {torch.float32}


def test_embeddings_have_unit_length_and_do_not_depend_on_the_batch(tiny_encoder):
    random = np.random.default_rng(0)
    frames = list(random.integers(0, 255, (3, 4, 32, 32, 3), np.uint8))
    embedder = Embedder(tiny_encoder)

    together = embedder.embed(frames)
    alone = np.concatenate([embedder.embed([clip]) for clip in frames])
    assert together.shape == (3, 768)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize(
    "shape", [(1, 3, 3, 32, 32), (1, 4, 3, 16, 32), (1, 4, 1, 32, 32), (4, 3, 32, 32), (1, 8, 3, 32, 32)]
)
def test_another_shape_is_refused(tiny_encoder, shape):
    with pytest.raises(InvalidInput, match=r"expected frames \(B, 4, 3, 32, 32\), got"):
        tiny_encoder.model(torch.zeros(shape))


def test_the_order_of_frames_matters_through_the_time_embeddings():
    encoder = new_encoder(tiny_architecture(), seed=0)
    random = torch.Generator().manual_seed(0)
    frames = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), np.uint8)
    both_ways = [frames, frames[::-1].copy()]
    with torch.no_grad():
        for parameter in encoder.model.encoder.layer[0].parameters():
            parameter.normal_(generator=random)
        encoder.model.embeddings.time_embeddings.zero_()
        without = Embedder(encoder).embed(both_ways)
        encoder.model.embeddings.time_embeddings.normal_(generator=random)
        given = Embedder(encoder).embed(both_ways)

    assert without[0] @ without[1] == pytest.approx(1, abs=1e-5)
    assert given[0] @ given[1] < 0.95


@pytest.mark.parametrize(
    ("name", "frames", "size", "millions"),
    [("timesformer-l", 96, 224, 121.3), ("timesformer-b", 8, 224, 121.3), ("timesformer-demo", 12, 96, 0.7)],
)
def test_presets_are_what_they_are_called(name, frames, size, millions):
    config = preset(name)
    with torch.device("meta"):
        model = TimeSformer(config)

    assert (config.num_frames, config.image_size) == (frames, size)
    assert model.embedding_dim == 768
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.15)
    assert name in PRESETS


@pytest.mark.parametrize("wrong", [{"image_size": 33}, {"num_attention_heads": 5}, {"num_frames": 0}])
def test_numbers_that_do_not_fit_are_refused(wrong):
    sizes = {"num_frames": 4, "image_size": 32, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    with pytest.raises(InvalidInput, match="expected"):
        architecture(**{**sizes, **wrong})


def test_a_small_model_leaves_the_decoders_their_cores_and_a_large_one_takes_all(monkeypatch):
    monkeypatch.setattr("encoder.model.embed.usable_cores", lambda: 4)

    assert [threads_beside(preset("timesformer-demo"), decoders) for decoders in (1, 2, 8)] == [3, 2, 1]
    assert threads_beside(preset("timesformer-l"), 2) == threads_beside(preset("timesformer-b"), 2) == 4


def test_an_unknown_preset_or_device_is_refused(tiny_encoder):
    with pytest.raises(InvalidInput, match="expected a preset of timesformer-l"):
        preset("timesformer-xl")
    with pytest.raises(InvalidInput, match="expected a device"):
        Embedder(tiny_encoder, device="tpu")
    with pytest.raises(InvalidInput, match="expected a precision of fp32 or bf16, got 'fp8'"):
        Embedder(tiny_encoder, precision="fp8")


def test_weights_that_blow_up_are_noticed():
    encoder = new_encoder(tiny_architecture(), seed=0)
    with torch.no_grad():
        encoder.model.layernorm.weight.fill_(torch.nan)

    with pytest.raises(InvalidInput, match="not finite"):
        Embedder(encoder).embed([np.zeros((4, 32, 32, 3), np.uint8)])


def test_the_short_cut_of_the_last_layer_gives_the_cls_token_of_the_whole_one():
    model = new_encoder(architecture(4, 32, 32, 3, 2), seed=0).model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        frames = torch.randn(2, 4, 3, 32, 32)
        torch.testing.assert_close(model(frames), model.embedding(model.tokens(frames)[0]), atol=1e-5, rtol=1e-5)


def test_in_the_motion_view_what_stands_still_can_not_be_seen():
    seeing, blind = (
        new_encoder(architecture(4, 32, 32, 1, 2, input_view=view), seed=0).model for view in ("rgb", "motion")
    )
    moving, room = torch.randn(1, 4, 3, 32, 32), torch.randn(1, 1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(blind(moving), blind(moving + room), atol=1e-5, rtol=1e-5)
        assert (seeing(moving) - seeing(moving + room)).abs().max() > 0.01


def test_the_view_is_part_of_the_encoder_id_and_comes_back_from_its_folder(tmp_path):
    plain, motion = (new_encoder(architecture(4, 32, 32, 1, 2, input_view=view), seed=0) for view in ("rgb", "motion"))

    assert plain.encoder_id != motion.encoder_id
    loaded = load_encoder(save_encoder(motion, tmp_path))
    assert (loaded.encoder_id, loaded.model.input_view) == (motion.encoder_id, "motion")
    with pytest.raises(InvalidInput, match="expected an input view of rgb, motion, change, got 'infrared'"):
        architecture(4, 32, 32, 1, 2, input_view="infrared")


def test_a_small_model_stays_exact_and_a_large_one_is_probed(tiny_encoder):
    assert advised_precision(preset("timesformer-demo"), "cpu") == ("fp32", "the model is small")
    precision, why = advised_precision(preset("timesformer-b"), "cpu")
    gain = float(re.search(r"at ([\d.]+) times fp32's rate", why)[1])
    assert precision == ("bf16" if gain >= 1.5 else "fp32")
    assert Embedder(tiny_encoder).precision == "fp32"


def test_the_work_of_a_clip_is_what_the_products_count():
    """Against a count by torch of one forward pass in the plain form, which folds the same products."""
    shape = architecture(16, 128, 64, 2, 2, embedding_dim=64)
    model = TimeSformer(shape).bfloat16()  # torch does not count its fused attention of a CPU, which fp32 takes
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, 16, 3, 128, 128, dtype=torch.bfloat16))

    # The last layer's CLS row and the fold itself are small, and left out of the count.
    assert flop_of_clip(shape) == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_the_precision_is_part_of_the_encoder_and_of_its_id(tiny_encoder, tmp_path):
    rounded = with_precision(tiny_encoder, "bf16")
    frames = list(np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3), np.uint8))

    assert rounded.encoder_id != tiny_encoder.encoder_id
    assert with_precision(rounded, "fp32").encoder_id == tiny_encoder.encoder_id
    loaded = load_encoder(save_encoder(rounded, tmp_path))
    assert (loaded.encoder_id, loaded.precision) == (rounded.encoder_id, "bf16")
    assert Embedder(loaded).precision == "bf16"
    np.testing.assert_array_equal(
        Embedder(loaded).embed(frames), Embedder(tiny_encoder, precision="bf16").embed(frames)
    )
    assert "Precision: bf16" in (tmp_path / rounded.encoder_id / "README.md").read_text()
    with pytest.raises(InvalidInput, match="expected a precision of fp32 or bf16, got 'fp8'"):
        with_precision(tiny_encoder, "fp8")


def test_a_gpu_without_bfloat16_refuses_an_encoder_that_computes_in_it(tiny_encoder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    with pytest.raises(InvalidInput, match="computes in bf16, which this GPU has not"):
        Embedder(with_precision(tiny_encoder, "bf16"), "cuda")
