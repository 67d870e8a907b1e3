"""Other frozen backbones embed as transformers has it: its processor's pixels, its model, and the pooling named."""

import json

import numpy as np
import pytest
import torch
import transformers
from transformers import (
    TimesformerConfig,
    TimesformerModel,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VideoMAEModel,
    VivitConfig,
    VivitModel,
    VJEPA2Config,
    VJEPA2Model,
    XCLIPVisionConfig,
    XCLIPVisionModel,
)

from encoder.job.pipeline import EncodeOptions, encode
from encoder.manifest import read_manifest
from encoder.model.backbone import POOLINGS
from encoder.model.embed import Embedder, advised_precision
from encoder.model.folder import current_encoder, install_encoder, load_encoder, save_encoder
from encoder.model.timesformer import normalise
from index.errors import InvalidInput
from index.tables.store import Store

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
HALVES = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 1 / 127.5, "offset": True}


def vjepa():
    size = {key: SMALL[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    predictor = {"pred_hidden_size": 32, "pred_num_hidden_layers": 1, "pred_num_attention_heads": 2}
    return VJEPA2Config(crop_size=32, frames_per_clip=4, **size, **predictor)


KINDS = {
    "videomae": (VideoMAEModel, lambda: VideoMAEConfig(image_size=32, num_frames=4, **SMALL), IMAGENET),
    "vivit": (VivitModel, lambda: VivitConfig(image_size=32, num_frames=4, **SMALL), HALVES),
    "vjepa2": (VJEPA2Model, vjepa, IMAGENET),
    "xclip_vision_model": (
        XCLIPVisionModel,
        lambda: XCLIPVisionConfig(image_size=32, num_frames=4, patch_size=16, mit_hidden_size=32, **SMALL),
        IMAGENET,
    ),
    "timesformer": (
        TimesformerModel,
        lambda: TimesformerConfig(image_size=32, num_frames=4, attention_type="joint_space_time", **SMALL),
        {"image_mean": [0.45] * 3, "image_std": [0.225] * 3},
    ),
}


@pytest.fixture(params=KINDS)
def saved(request, tmp_path):
    """(kind, folder, model, how pixels are prepared) of a backbone with random weights."""
    model_class, config, pixels = KINDS[request.param]
    torch.manual_seed(3)
    model = model_class(config()).eval()
    model.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "preprocessor_config.json").write_text(json.dumps(pixels))
    return request.param, tmp_path / "saved", model, pixels


def clips(count=2, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 32, 32, 3), np.uint8)


def by_transformers(kind, model, pixels, frames_BTHWC):
    """What transformers gives, written out from its documentation."""
    scaled = torch.from_numpy(frames_BTHWC).double() * pixels.get("rescale_factor", 1 / 255)
    scaled = scaled - float(pixels.get("offset", 0))
    normal = (scaled - torch.tensor(pixels["image_mean"])) / torch.tensor(pixels["image_std"])
    x = normal.permute(0, 1, 4, 2, 3).float()
    with torch.inference_mode():
        if kind == "videomae":
            return model(pixel_values=x).last_hidden_state.mean(1)
        if kind == "vjepa2":
            return model(pixel_values_videos=x, skip_predictor=True).last_hidden_state.mean(1)
        if kind == "xclip_vision_model":
            return torch.stack([model(pixel_values=clip).pooler_output.mean(0) for clip in x])
        return model(pixel_values=x).last_hidden_state[:, 0]


def test_a_frozen_backbone_embeds_as_transformers_does(saved):
    kind, folder, model, pixels = saved
    frames = clips()
    encoder = load_encoder(folder)

    wanted = torch.nn.functional.normalize(by_transformers(kind, model, pixels, frames), dim=1).numpy()
    np.testing.assert_allclose(Embedder(encoder).embed(list(frames)), wanted, atol=2e-5)
    assert np.abs(wanted[0] - wanted[1]).max() > 1e-3
    assert (encoder.model.config.num_frames, encoder.model.config.image_size, encoder.model.embedding_dim) == (
        4,
        32,
        32,
    )
    assert (encoder.kind, encoder.trained) == ("imported", True)
    assert advised_precision(encoder.model.config, "cpu")[0] == "fp32"


def test_what_is_saved_here_is_the_same_encoder_and_transformers_reads_it(saved, tmp_path):
    kind, folder, _, _ = saved
    encoder = load_encoder(folder)
    again = load_encoder(save_encoder(encoder, tmp_path / "encoders"))

    assert again.encoder_id == encoder.encoder_id
    frames = list(clips())
    np.testing.assert_array_equal(Embedder(again).embed(frames), Embedder(encoder).embed(frames))
    theirs = type(again.model.model).from_pretrained(tmp_path / "encoders" / encoder.encoder_id)
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(tensor, again.model.model.state_dict()[name])
    assert f"{kind} of transformers, frozen" in (tmp_path / "encoders" / encoder.encoder_id / "README.md").read_text()


def test_all_that_decides_an_embedding_is_in_the_encoder_id(saved):
    kind, folder, _, pixels = saved
    ids = {load_encoder(folder).encoder_id}
    if POOLINGS[kind] == "cls":
        ids |= {load_encoder(folder, pooling).encoder_id for pooling in ("cls", "mean")}
        assert len(ids) == 2
    else:  # there is no such token
        with pytest.raises(InvalidInput, match=f"expected a pooling of {POOLINGS[kind]} for {kind}, got 'cls'"):
            load_encoder(folder, "cls")
    preprocessing = folder / "preprocessor_config.json"
    preprocessing.write_text(json.dumps({**pixels, "image_mean": [0.1, 0.2, 0.3]}))
    ids.add(load_encoder(folder).encoder_id)
    preprocessing.write_text(json.dumps(pixels))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 0.1}))
    ids.add(load_encoder(folder).encoder_id)
    assert len(ids) == (4 if POOLINGS[kind] == "cls" else 3)


def test_a_checkpoint_with_a_classifier_is_read_without_it(tmp_path):
    model = VideoMAEForVideoClassification(VideoMAEConfig(image_size=32, num_frames=4, num_labels=7, **SMALL)).eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(IMAGENET))
    frames = clips()

    wanted = torch.nn.functional.normalize(by_transformers("videomae", model.videomae, IMAGENET, frames), dim=1)
    np.testing.assert_allclose(Embedder(load_encoder(tmp_path)).embed(list(frames)), wanted.numpy(), atol=2e-5)


def test_an_encoded_video_is_stored_with_the_backbones_own_width(hospital, workspace, saved):
    _, folder, _, _ = saved
    install_encoder(load_encoder(folder), workspace.encoders)
    encoder = current_encoder(workspace.encoders)
    manifest = hospital(("short_7s.mp4", "p1", "v1"))

    report = encode(read_manifest(manifest), Embedder(encoder), Store(workspace), EncodeOptions())

    assert (report.videos_written, len(report.refused)) == (1, 0)
    stored = Store(workspace).clips(encoder.encoder_id)
    assert stored.vectors.shape == (1, 32)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "has no preprocessor_config.json"),
        (
            lambda folder: (folder / "preprocessor_config.json").write_text('{"image_mean": [0.5]}'),
            "expected an image_mean and an image_std of 3 numbers",
        ),
        (lambda folder: (folder / "model.safetensors").unlink(), "can't be read|damaged"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no weights"), "can't be read|damaged"),
        (lambda folder: change(folder, num_hidden_layers=3), "weights of the .* backbone are missing"),
        (
            lambda folder: change(folder, image_size=64, crop_size=64, num_frames=900, frames_per_clip=900),
            "1 to 256 frames",
        ),
    ],
    ids=["no preprocessing", "two colours", "no weights", "damaged weights", "a layer more", "many frames"],
)
def test_a_folder_that_can_not_serve_is_refused_with_the_reason(saved, damage, said):
    _, folder, _, _ = saved
    damage(folder)
    with pytest.raises(InvalidInput, match=said):
        load_encoder(folder)


def change(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


def test_code_of_a_folder_is_never_run(tmp_path):
    """`auto_map` names a module of the folder, which transformers would import if it were asked to trust it."""
    torch.manual_seed(0)
    VideoMAEModel(VideoMAEConfig(image_size=32, num_frames=4, **SMALL)).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(IMAGENET))
    (tmp_path / "evil.py").write_text("raise SystemExit(77)")
    change(tmp_path, auto_map={"AutoModel": "evil.Model", "AutoConfig": "evil.Config"})

    assert load_encoder(tmp_path).model.kind == "videomae"


def test_an_unknown_pooling_or_one_for_timesformer_is_refused(tmp_path, saved, tiny_encoder):
    kind, folder, _, _ = saved
    allowed = "cls or mean" if POOLINGS[kind] == "cls" else POOLINGS[kind]
    with pytest.raises(InvalidInput, match=f"expected a pooling of {allowed} for {kind}, got 'max'"):
        load_encoder(folder, "max")
    own = save_encoder(tiny_encoder, tmp_path)
    with pytest.raises(InvalidInput, match="a pooling can be chosen for other backbones only"):
        load_encoder(own, "mean")


def test_a_backbone_is_not_pretrained(saved):
    with pytest.raises(InvalidInput, match=r"expected a TimeSformer to pretrain, got \w+: imported"):
        _ = load_encoder(saved[1]).trainable


def test_weights_that_are_not_finite_are_refused(saved):
    _, folder, model, _ = saved
    with torch.no_grad():
        next(iter(model.parameters())).view(-1)[0] = torch.inf
    model.save_pretrained(folder)
    with pytest.raises(InvalidInput, match="not finite"):
        load_encoder(folder)


@pytest.mark.parametrize("name", ["VivitImageProcessor", "VideoMAEImageProcessorPil"])
def test_pixels_are_those_of_transformers_own_processors(tmp_path, name):
    processor = getattr(transformers, name)(do_resize=False, do_center_crop=False)
    processor.save_pretrained(tmp_path)
    model = VideoMAEModel(VideoMAEConfig(image_size=32, num_frames=4, **SMALL)).eval()
    model.save_pretrained(tmp_path)
    frames = clips(1)
    backbone, given = load_encoder(tmp_path).model, []
    backbone.model.register_forward_pre_hook(lambda module, args, named: given.append(named), with_kwargs=True)

    with torch.inference_mode():
        backbone(normalise(torch.from_numpy(frames)))

    wanted = processor(list(frames[0]), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(given[0]["pixel_values"], wanted, atol=1e-5, rtol=0)
