"""The examples are what the commands accept."""

from pathlib import Path

import pytest

from trainer.pretraining.config import PretrainConfig
from trainer.pretraining.run import RunConfig, read_config
from trainer.study.config import AblationConfig

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(("name", "kind"), [("pretrain.toml", RunConfig), ("paper.toml", AblationConfig)])
def test_an_example_is_a_configuration(name, kind):
    config = read_config(EXAMPLES / name, kind)

    assert config.pretrain.precision == "bf16"


@pytest.mark.parametrize("kind", [RunConfig, AblationConfig, PretrainConfig])
def test_every_setting_is_explained(kind):
    for name, field in kind.model_fields.items():
        assert field.description, name
