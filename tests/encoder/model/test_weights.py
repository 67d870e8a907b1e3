"""Weights: both layouts in, one out, identity over everything that decides an embedding."""

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import TimesformerConfig, TimesformerModel

from encoder.model.architecture import architecture
from encoder.model.folder import current_encoder, install_encoder, load_encoder, save_encoder
from encoder.model.identity import encoder_id_of, new_encoder
from encoder.model.original import import_pyth
from index.errors import DamagedData, InvalidInput, NotFound, StateError
from tests.conftest import DATA, tiny_architecture

ORIGINALS = DATA / "timesformer"
SIZES = {"num_frames": 4, "image_size": 32, "hidden_size": 32, "num_hidden_layers": 1}


def test_a_saved_encoder_loads_as_itself(tiny_encoder, tmp_path):
    loaded = load_encoder(save_encoder(tiny_encoder, tmp_path))

    assert (loaded.encoder_id, loaded.origin, loaded.trained) == (
        tiny_encoder.encoder_id,
        "random initial weights, seed 0",
        False,
    )
    assert encoder_id_of(loaded.model) == tiny_encoder.encoder_id


def test_a_folder_holds_weights_config_preprocessing_and_card(tiny_encoder, tmp_path):
    folder = save_encoder(tiny_encoder, tmp_path)

    assert sorted(os.listdir(folder)) == ["README.md", "config.json", "model.safetensors", "preprocessor_config.json"]
    assert "untrained" in (folder / "README.md").read_text()


def test_a_folder_of_transformers_loads(tmp_path):
    theirs = TimesformerModel(TimesformerConfig(**SIZES, num_attention_heads=2, intermediate_size=64))
    theirs.save_pretrained(tmp_path / "theirs")

    encoder = load_encoder(tmp_path / "theirs")
    assert encoder.trained
    assert encoder.model.embedding_dim == 32


def test_both_prefixes_of_original_checkpoints_give_the_same_encoder():
    plain = import_pyth(ORIGINALS / "tiny_96d_12f.pyth", num_attention_heads=4)
    prefixed = import_pyth(ORIGINALS / "tiny_96d_12f_module_prefix.pth", num_attention_heads=4)

    assert plain.encoder_id == prefixed.encoder_id


def test_a_bare_state_dict_is_read_too(tmp_path):
    state = torch.load(ORIGINALS / "tiny_96d_12f.pyth", weights_only=True)["model_state"]
    torch.save(state, tmp_path / "bare.pth")

    bare = import_pyth(tmp_path / "bare.pth", num_attention_heads=4)
    assert bare.encoder_id == import_pyth(ORIGINALS / "tiny_96d_12f.pyth", num_attention_heads=4).encoder_id


def test_heads_that_the_width_does_not_tell_must_be_named():
    with pytest.raises(InvalidInput, match="name it with --heads"):
        import_pyth(ORIGINALS / "tiny_96d_12f.pyth")


def test_a_missing_weight_is_named():
    with pytest.raises(InvalidInput, match=r"expected 67 weights, got 66: .*encoder\.layer\.1\.temporal_dense\.weight"):
        import_pyth(ORIGINALS / "bad_missing_key.pyth", num_attention_heads=4)


def test_a_payload_is_refused_and_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match="never run"):
        import_pyth(ORIGINALS / "bad_pickle_payload.pyth")
    assert os.listdir(tmp_path) == []

    class Payload:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "mine.pyth").write_bytes(pickle.dumps({"model_state": Payload()}, protocol=2))
    torch.save({"model_state": Payload()}, tmp_path / "zipped.pyth")
    for name in ("mine.pyth", "zipped.pyth"):
        with pytest.raises(InvalidInput, match="never run"):
            import_pyth(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04broken"])
def test_files_that_are_no_checkpoints_are_refused(tmp_path, content):
    (tmp_path / "x.pyth").write_bytes(content)
    with pytest.raises(InvalidInput):
        import_pyth(tmp_path / "x.pyth")
    with pytest.raises(InvalidInput):
        import_pyth(tmp_path / "absent.pyth")


@pytest.mark.parametrize("content", [[1, 2], {"model_state": {"x": torch.zeros(1)}}, {"epoch": 3}])
def test_checkpoints_of_something_else_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "x.pyth")
    with pytest.raises(InvalidInput):
        import_pyth(tmp_path / "x.pyth")


def test_a_foreign_weight_a_wrong_shape_and_a_nan_are_refused(tmp_path):
    whole = torch.load(ORIGINALS / "tiny_96d_12f.pyth", weights_only=True)["model_state"]
    prefix = "model." if "model.time_embed" in whole else ""
    changes = {
        "unknown": {f"{prefix}blocks.0.extra.weight": torch.zeros(2)},
        "expected shape": {f"{prefix}norm.weight": torch.zeros(95)},
        "not finite": {f"{prefix}norm.weight": torch.full((96,), torch.nan)},
    }
    for says, change in changes.items():
        torch.save({**whole, **change}, tmp_path / "x.pyth")
        with pytest.raises(InvalidInput, match=says):
            import_pyth(tmp_path / "x.pyth", num_attention_heads=4)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_damaged_or_incomplete_folder_is_refused(tiny_encoder, tmp_path, name):
    folder = save_encoder(tiny_encoder, tmp_path)
    (folder / name).write_bytes((folder / name).read_bytes()[:50])
    with pytest.raises(InvalidInput, match="damaged"):
        load_encoder(folder)
    (folder / name).unlink()
    with pytest.raises(InvalidInput, match="is missing"):
        load_encoder(folder)


def test_another_kind_of_model_is_refused(tiny_encoder, tmp_path):
    folder = save_encoder(tiny_encoder, tmp_path)
    text = (folder / "config.json").read_text()
    for old, new in (('"timesformer"', '"vivit"'), ('"divided_space_time"', '"space_only"'), ('"gelu"', '"relu"')):
        (folder / "config.json").write_text(text.replace(old, new))
        with pytest.raises(InvalidInput, match=r"expected|weights"):
            load_encoder(folder)


def test_the_id_follows_everything_that_decides_an_embedding(tiny_encoder):
    other_heads = new_encoder(architecture(**SIZES, num_attention_heads=4), seed=0)
    other_seed = new_encoder(tiny_architecture(), seed=1)
    nudged = new_encoder(tiny_architecture(), seed=0)
    with torch.no_grad():
        nudged.model.layernorm.bias[0] += 1e-6

    ids = [tiny_encoder.encoder_id, other_heads.encoder_id, other_seed.encoder_id, encoder_id_of(nudged.model)]
    assert len(set(ids)) == 4
    assert new_encoder(tiny_architecture(), seed=0).encoder_id == tiny_encoder.encoder_id


def test_making_one_leaves_the_callers_random_state_alone():
    torch.manual_seed(3)
    before = torch.rand(1)
    torch.manual_seed(3)
    new_encoder(tiny_architecture(), seed=0)

    assert torch.rand(1) == before


def test_the_encoder_in_use_is_the_one_installed(tiny_encoder, tmp_path):
    with pytest.raises(StateError, match="no encoder"):
        current_encoder(tmp_path)
    install_encoder(tiny_encoder, tmp_path)
    other = new_encoder(tiny_architecture(), seed=5)
    save_encoder(other, tmp_path)

    assert current_encoder(tmp_path).encoder_id == tiny_encoder.encoder_id
    assert current_encoder(tmp_path, other.encoder_id).encoder_id == other.encoder_id
    for name in ("absent", "../x", ""):
        with pytest.raises(NotFound):
            current_encoder(tmp_path, name)


def test_an_encoder_whose_weights_changed_is_not_taken_for_itself(tiny_encoder, tmp_path):
    install_encoder(tiny_encoder, tmp_path)
    other = new_encoder(tiny_architecture(), seed=5)
    save_encoder(other, tmp_path)
    weights = (tmp_path / other.encoder_id / "model.safetensors").read_bytes()
    (tmp_path / tiny_encoder.encoder_id / "model.safetensors").write_bytes(weights)

    with pytest.raises(DamagedData, match="not what was saved"):
        current_encoder(tmp_path)


@pytest.mark.parametrize(
    "change", [{"num_frames": "8"}, {"patch_size": 0}, {"embedding_dim": None}, {"hidden_size": 1.5}]
)
def test_a_config_of_other_types_is_refused(tiny_encoder, tmp_path, change):
    folder = save_encoder(tiny_encoder, tmp_path)
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))

    with pytest.raises(InvalidInput, match="expected a whole number"):
        load_encoder(folder)


def test_a_missing_checkpoint_is_said_to_be_missing(tmp_path):
    with pytest.raises(InvalidInput, match="can't be read"):
        import_pyth(tmp_path / "absent.pyth")


def test_the_card_names_the_licence_of_imported_weights(tmp_path):
    encoder = import_pyth(ORIGINALS / "tiny_96d_12f.pyth", num_attention_heads=4)

    assert "CC-BY-NC-4.0" in (save_encoder(encoder, tmp_path) / "README.md").read_text()
    assert (
        "Apache-2.0" in (save_encoder(replace(encoder, trained=False, origin="x"), tmp_path) / "README.md").read_text()
    )
