"""Detectors of beds: which folders are taken, which are refused and why; Mask R-CNN on the whole way."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    DetrConfig,
    DetrForObjectDetection,
    DetrImageProcessorPil,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    ResNetConfig,
    SwinConfig,
    YolosConfig,
    YolosForObjectDetection,
    YolosImageProcessorPil,
)
from transformers.models.mask2former import Mask2FormerImageProcessorPil

from encoder.bed.crop import CropPolicy, used_crop
from encoder.bed.detector import FoundBed, _outlined_beds, detector_id, import_mask_rcnn, load_detector
from encoder.model.embed import Embedder
from encoder.model.folder import current_encoder, install_encoder
from encoder.model.identity import encoder_id_of
from encoder.video.decoder import Decoder
from index.errors import DamagedData, InvalidInput
from index.tables.schema import vectors_of
from index.tables.store import Store

ROOT = Path(__file__).resolve().parents[3]
TORCHVISION = Path(sys.prefix) / "torchvision"
"""Where `make` puts a torchvision that this torch can't import by itself, and nothing else can see."""
CLASSES = {0: "person", 1: "bed", 2: "chair"}


def save_yolos(folder, classes=CLASSES):
    config = YolosConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=[64, 96],
        num_detection_tokens=5,
        id2label=classes,
        use_mid_position_embeddings=False,
    )
    model = YolosForObjectDetection(config)
    model.class_labels_classifier.layers[-1].bias.data[1] = 2.0
    model.save_pretrained(folder)
    YolosImageProcessorPil(size={"height": 64, "width": 96}, do_pad=False).save_pretrained(folder)


def save_detr(folder):
    backbone = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], out_features=["stage2"])
    config = DetrConfig(
        backbone_config=backbone,
        d_model=32,
        num_queries=5,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        id2label=CLASSES,
    )
    model = DetrForObjectDetection(config)
    model.class_labels_classifier.bias.data[1] = 2.0
    model.save_pretrained(folder)
    DetrImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 128}).save_pretrained(folder)


def save_mask2former(folder):
    config = Mask2FormerConfig(
        backbone_config=SwinConfig(
            image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=4, out_features=STAGES
        ),
        num_queries=6,
        encoder_layers=1,
        decoder_layers=2,
        **{"hidden_dim": 32, "feature_size": 32, "mask_feature_size": 32, "num_attention_heads": 2},
        **{"encoder_feedforward_dim": 16, "dim_feedforward": 16},
        id2label=CLASSES,
    )
    model = Mask2FormerForUniversalSegmentation(config)
    model.class_predictor.bias.data[1] = 2.0
    model.save_pretrained(folder)
    Mask2FormerImageProcessorPil(size={"height": 64, "width": 96}).save_pretrained(folder)


STAGES = ["stage1", "stage2", "stage3", "stage4"]


def test_the_bed_of_a_mask_is_the_box_round_what_transformers_outlines(tmp_path):
    torch.manual_seed(0)
    save_mask2former(tmp_path)
    picture = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    model = Mask2FormerForUniversalSegmentation.from_pretrained(tmp_path).eval()
    processor = Mask2FormerImageProcessorPil.from_pretrained(tmp_path)
    with torch.inference_mode():
        outputs = model(**processor(images=[picture], return_tensors="pt"))
    (wanted,) = processor.post_process_instance_segmentation(
        outputs, threshold=0.01, target_sizes=[(120, 160)], return_coco_annotation=False, return_binary_maps=True
    )
    boxes = []
    for mask, segment in zip(wanted["segmentation"].numpy(), wanted["segments_info"], strict=True):
        rows, columns = np.nonzero(mask)
        if segment["label_id"] == 1 and len(rows):
            boxes.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1, segment["score"]))

    found = load_detector(tmp_path, confidence=0.01).beds(picture)

    assert boxes
    np.testing.assert_allclose([(b.left, b.top, b.right, b.bottom, b.confidence) for b in found], boxes, rtol=1e-5)


def test_a_box_holds_every_pixel_of_its_outline_and_no_more():
    masks = torch.zeros(3, 10, 12)
    masks[0, 2:5, 3:9] = 1
    masks[0, 7, 4] = 1
    masks[1, 0, 0] = masks[2, :, :] = 1
    segments = [{"label_id": 1, "score": 0.9}, {"label_id": 1, "score": 0.5}, {"label_id": 0, "score": 0.8}]

    assert _outlined_beds({"segmentation": masks, "segments_info": segments}, 1) == [
        FoundBed(3.0, 2.0, 9.0, 8.0, 0.9),
        FoundBed(0.0, 0.0, 1.0, 1.0, 0.5),
    ]
    assert _outlined_beds({"segmentation": torch.full((10, 12), -1), "segments_info": []}, 1) == []


@pytest.mark.parametrize("save", [save_yolos, save_detr, save_mask2former])
def test_any_object_detector_of_transformers_is_asked_for_its_beds(save, tmp_path):
    torch.manual_seed(0)
    save(tmp_path)
    picture = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)

    all_beds = load_detector(tmp_path, confidence=0.001).beds(picture)
    surest = max(all_beds, key=lambda bed: bed.confidence)
    sure = load_detector(tmp_path, confidence=surest.confidence - 1e-4).beds(picture)

    assert surest in sure
    assert all(bed.confidence >= surest.confidence - 1e-4 for bed in sure)
    assert all(-160 < bed.left < bed.right < 320 and -120 < bed.top < bed.bottom < 240 for bed in all_beds)


def test_a_detector_is_known_by_its_files(tmp_path):
    save_yolos(tmp_path)
    known = detector_id(tmp_path)
    with (tmp_path / "preprocessor_config.json").open("a") as stream:
        stream.write("\n")

    with pytest.raises(DamagedData, match=f"expected bed detector {known}, got {detector_id(tmp_path)}"):
        load_detector(tmp_path, 0.5, expected_id=known)


def test_code_beside_a_detector_is_never_run(tmp_path):
    save_yolos(tmp_path)
    ran = tmp_path / "ran"
    (tmp_path / "own.py").write_text(f"open({str(ran)!r}, 'w')\nclass Own: pass\n")
    path = tmp_path / "preprocessor_config.json"
    said = json.loads(path.read_text()) | {"image_processor_type": "Own", "auto_map": {"AutoImageProcessor": "own.Own"}}
    path.write_text(json.dumps(said))

    with pytest.raises(InvalidInput, match="can load as an object detector"):
        load_detector(tmp_path, 0.5)
    assert not ran.exists()


def test_folders_that_are_no_detectors_of_beds_are_refused(tmp_path, tiny_encoder):
    save_yolos(tmp_path / "other", {0: "person", 1: "sofa"})
    with pytest.raises(InvalidInput, match=r"class named bed, got 2 classes without one \(person, sofa"):
        load_detector(tmp_path / "other", 0.5)

    with pytest.raises(InvalidInput, match=r"config\.json is missing.*or the word maskrcnn"):
        load_detector(tmp_path / "nothing", 0.5)

    save_yolos(tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").rename(tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(InvalidInput, match=r"model\.safetensors is missing"):
        load_detector(tmp_path / "pickled", 0.5)

    save_yolos(tmp_path / "unprepared")
    (tmp_path / "unprepared" / "preprocessor_config.json").unlink()
    with pytest.raises(InvalidInput, match=r"preprocessor_config\.json is missing"):
        load_detector(tmp_path / "unprepared", 0.5)

    save_yolos(tmp_path / "cut")
    (tmp_path / "cut" / "model.safetensors").write_bytes(b"\0" * 64)
    with pytest.raises(InvalidInput, match="can load as an object detector"):
        load_detector(tmp_path / "cut", 0.5)

    save_yolos(tmp_path / "classifier")
    (tmp_path / "classifier" / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(InvalidInput, match="can load as an object detector"):
        load_detector(tmp_path / "classifier", 0.5)

    (tmp_path / "classifier" / "config.json").write_text("[]")
    with pytest.raises(InvalidInput, match=r"config\.json can't be read"):
        load_detector(tmp_path / "classifier", 0.5)


def test_without_torchvision_the_message_says_what_is_needed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(InvalidInput, match=r"pip install --no-deps 'torchvision==0.28.\*'"):
        import_mask_rcnn(None, tmp_path)


def run_beside_torchvision(*command, **variables):
    assert TORCHVISION.is_dir(), f"no torchvision in {TORCHVISION}: `make test` installs it"
    environment = {**os.environ, **variables, "PYTHONPATH": f"{TORCHVISION}{os.pathsep}{ROOT}"}
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, env=environment, check=False
    )


def test_a_torchvision_for_another_torch_is_said_to_be_one(tmp_path, monkeypatch):
    """As one built for CUDA greets a torch for CPUs."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text('raise RuntimeError("operator torchvision::nms is missing")')
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(InvalidInput, match=r"can't be imported \(RuntimeError\): pip install --no-deps"):
        import_mask_rcnn(None, tmp_path / "made")


def test_a_detector_of_transformers_needs_no_torchvision_and_minds_none(tmp_path):
    """transformers would import the one that it finds, which fails beside another torch than its own."""
    code = """
import sys
from pathlib import Path
import numpy as np
from encoder.bed.detector import load_detector
print(len(load_detector(Path(sys.argv[1]), 0.0).beds(np.zeros((96, 128, 3), np.uint8))))
"""
    done = run_beside_torchvision("-c", code, ROOT / "semiome" / "weights" / "beds")

    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_weights_that_are_not_in_the_cache_are_asked_for_and_not_downloaded(tmp_path):
    code = """
import sys
from pathlib import Path
from encoder.bed.detector import import_mask_rcnn
import_mask_rcnn(None, Path(sys.argv[1]))
"""
    done = run_beside_torchvision("-c", code, tmp_path, TORCH_HOME=str(tmp_path))

    assert "InvalidInput: torchvision's cache has no maskrcnn_resnet50_fpn_coco-" in done.stderr
    assert "nothing is downloaded" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_mask_rcnns_box_goes_through_the_whole_way(hospital, workspace, tiny_encoder):
    manifest = hospital(("short_7s.mp4", "p1", "v1"))
    install_encoder(tiny_encoder, workspace.encoders)

    done = run_beside_torchvision("-m", "tests.encoder.bed.mask_rcnn_worker", manifest, workspace.root)
    assert done.returncode == 0, done.stderr

    encoder = current_encoder(workspace.encoders)
    assert encoder.crop == CropPolicy(detector_id(encoder.detector_folder), margin=0.05)
    assert encoder.encoder_id == encoder_id_of(tiny_encoder.model, encoder.crop) != tiny_encoder.encoder_id
    used = used_crop(Store(workspace).encoded(encoder.encoder_id)["v1"].crop)
    assert (used.origin, used.picture) == ("bed", (320, 240))
    assert used.box.w < 320
    assert used.box.h < 240
    with Decoder(4, 32) as decoder:
        frames = [clip.frames for clip in decoder.decode(manifest.parent / "short_7s.mp4", used.box)]
    # Untrained weights choose any box: in this one nothing may move, and then the clip is stored and not searched.
    stored = vectors_of(Store(workspace).clip_table(encoder.encoder_id).to_table(["vector"]))
    np.testing.assert_allclose(stored, Embedder(tiny_encoder).embed(frames), atol=1e-6)
