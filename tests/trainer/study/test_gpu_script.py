"""The script for ten minutes on a GPU runs here too, on the CPU and with tiny models, and none of its checks fails."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


def run(*options):
    done = subprocess.run(
        ["bash", ROOT / "benchmarks" / "gpu.sh", "--quick", "--device", "cpu", *options],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHON": sys.executable},
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_check_finds_something():
    found = {line["check"]: line for line in run()}

    assert len(found) == 11
    assert {name: line for name, line in found.items() if "failed" in line or "left_out" in line} == {}
    assert found["same vectors"]["holds"] is True
    assert found["resumed"]["holds"] is True
    assert found["torchrun"]["exit"] == [0, 0]
    assert found["torchrun"]["losses"][0] == pytest.approx(found["torchrun"]["losses"][1], abs=1e-3)
    assert found["last layer"]["forward_differs"] < 1e-5
    assert found["training"]["last_loss"] < found["training"]["first_loss"]


def test_what_would_begin_after_the_limit_is_named_and_left_out():
    found = run("--limit", "-1", "--only", "device", "memory")

    assert [line["check"] for line in found] == ["device", "memory"]
    assert all("left_out" in line for line in found)
