"""The study of examples/paper.toml, from videos to the report, at the size of a toy and on its whole way."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.pretraining.run import read_config
from trainer.study.config import AblationConfig

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


def run(folder):
    command = [sys.executable, ROOT / "benchmarks" / "paper.py", "--out", folder]
    subprocess.run(command, capture_output=True, check=True)


def test_the_papers_study_runs_from_its_file_to_the_report(tmp_path):
    folder = tmp_path
    run(folder)
    runs = folder / "workspace" / "runs" / "paper"
    result = json.loads((runs / "result.json").read_text())
    rows = {row["name"]: row["scores"] for row in result["rows"]}

    assert {(row["videos"], row["patients"]) for row in rows.values()} == {(57, 15)}
    assert sum(rows["both"]["confusion"][1]) == 15
    assert {"none", "video", "patient", "both", "I3D + LSTM, random backbone"} <= set(rows)
    assert rows["majority class"]["accuracy"]["value"] == pytest.approx(42 / 57)
    cache = json.loads((folder / "frames" / "unlabelled" / "clips.json").read_text())
    assert len({clip["video_id"] for clip in cache["clips"]}) == 731
    assert {clip["crop"] for clip in cache["clips"]} == {""}
    beds = json.loads((folder / "frames" / "beds.json").read_text())["found"]
    assert len(beds) == 57
    labelled = json.loads((folder / "frames" / "clips.json").read_text())["clips"]
    assert {clip["video_id"]: clip["crop"] for clip in labelled} == {
        video: box for video, (kind, box) in beds.items() if kind == "bed"
    }
    page = (runs / "report.html").read_text()
    table = (runs / "table.txt").read_text()
    for title in ("Table I of the paper, and here", "Perez-Garcia et al."):
        assert title in page
        assert title in table
    assert any(line.startswith("both levels") and "0.930" in line and "0.882" in line for line in table.splitlines())


def test_the_papers_file_says_what_the_paper_did():
    config = read_config(ROOT / "examples" / "paper.toml", AblationConfig)
    recipe = config.pretrain

    assert (recipe.epochs, recipe.levels, recipe.patients * recipe.videos * recipe.clips) == (5, "both", 8)
    assert (config.modes, config.folds, config.head.epochs) == (("transductive",), 5, 10)
    assert [baseline.kind for baseline in config.baselines] == ["i3d", "r2plus1d", "perez-garcia"]
    assert config.bed.detector == "maskrcnn"
