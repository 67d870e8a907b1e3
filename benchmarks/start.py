"""What starting costs: processor time of imports and commands, seconds until a server answers, memory of a worker.

    git worktree add ../before REVISION
    .venv/bin/python benchmarks/start.py ../before [--quick]

Both revisions run in this environment, in turn, on the same workspace of 240 clips, with one thread each; medians. One
JSON object a figure on stdout. The ratio says how many times as much the revision before takes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from figures import figure, say
from service_store import video_of

from encoder.head import Head, HeadCard, save_head
from index.processors import usable_cores
from index.tables.committer import committing
from index.tables.store import Store
from index.vectors.generation import build_generation
from index.vectors.publication import publish
from index.workspace import Workspace, set_current

OURS = Path(__file__).resolve().parent.parent
CLIPS, WIDTH = 240, 768
Measure = Callable[[Path, Path], float]


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser()
    options.add_argument("before", type=Path, help="a checkout of the revision to compare with")
    options.add_argument("--quick", action="store_true", help="one round: proves that the script runs")
    chosen = options.parse_args()
    rounds = 1 if chosen.quick else 3
    say(f"{usable_cores()} cores; {rounds} rounds of both revisions in turn")
    figures: list[tuple[str, str, float, Measure]] = [
        (
            "import service.server.worker",
            "s of processor time",
            3.24,
            lambda tree, _: python(tree, "-c", "import service.server.worker"),
        ),
        ("`semiome serve` until it answers", "s", 3.06, lambda tree, at: serve(tree, at)[0]),
        ("the same with two workers", "s", 3.75, lambda tree, at: serve(tree, at, "--workers", "2")[0]),
        ("private memory of a worker", "MB", 2.15, lambda tree, at: serve(tree, at, "--workers", "2")[1]),
        ("`semiome index build`", "s of processor time", 2.67, lambda tree, at: command(tree, at, "index", "build")),
        ("`semiome doctor`", "s of processor time", 2.17, lambda tree, at: command(tree, at, "doctor")),
        (
            "an operation's child, until it gets its request",
            "s of processor time",
            2.17,
            lambda tree, _: python(tree, "-c", "import service.processes.operation_process"),
        ),
    ]
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder) / "workspace")
        fill(workspace)
        for name, unit, goal, measure in figures:
            seen: dict[Path, list[float]] = {OURS: [], chosen.before.resolve(): []}
            for _ in range(rounds):
                for tree, values in seen.items():
                    values.append(measure(tree, workspace.root))
            ours, theirs = (statistics.median(values) for values in seen.values())
            figure(name, ours, unit, "the revision before", theirs, theirs / ours, goal)


def fill(workspace: Workspace) -> None:
    """A small store with an index and a head."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(CLIPS, WIDTH)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    owner = np.arange(CLIPS) // 40
    with committing(Store(workspace), "bench", WIDTH) as committer:
        committer.commit([video_of(start, vectors, owner) for start in range(0, CLIPS, 10)])
    (workspace.encoders / "bench").mkdir(parents=True)
    set_current(workspace.encoders, "bench")
    publish(workspace, build_generation(Store(workspace).clips("bench"), workspace.generations).generation)
    layers = {
        "layers.0.weight": random.normal(size=(2, WIDTH)).astype(np.float32),
        "layers.0.bias": np.zeros(2, np.float32),
    }
    card = HeadCard((WIDTH, 2), ("TLE", "exTLE"), 0.5, 1.0, "bench", "0" * 64, 1, 1, 1, (), 0, 1)
    head = Head(layers, card)
    save_head(head, workspace.heads)
    set_current(workspace.heads, head.head_id)


def environment(tree: Path) -> dict[str, str]:
    """One thread, and the modules of one revision."""
    return {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}


def python(tree: Path, *arguments: str) -> float:
    """Seconds of processor time, user and system, of a Python process and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, *arguments],
        env=environment(tree),
        cwd=tree,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def command(tree: Path, workspace: Path, *arguments: str) -> float:
    """Seconds of processor time of a command."""
    return python(tree, "-m", "semiome", *arguments, "-w", str(workspace))


def serve(tree: Path, workspace: Path, *options: str) -> tuple[float, float]:
    """Seconds until a server says that it answers, and the private memory of its last worker in MB."""
    served = ["serve", "-w", str(workspace), "--port", "0", "--json", *options]
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "semiome", *served],
        env=environment(tree),
        cwd=tree,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as server:
        json.loads(server.stdout.readline() if server.stdout else b"")
        took = time.monotonic() - began
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        rollup = Path(f"/proc/{children[-1] if children else server.pid}/smaps_rollup").read_text()
        server.send_signal(signal.SIGTERM)
    kilobytes = re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+) kB", rollup, re.MULTILINE)
    return took, sum(map(int, kilobytes)) / 1024


if __name__ == "__main__":
    main()
