"""What a rebuild costs those who search meanwhile: 16 clients of `semiome serve`, and `semiome index build` beside it.

    .venv/bin/python benchmarks/rebuild.py [--quick] [--clips 1000000] [--unit]

Every client asks ten times a second, over gRPC, from a process of its own; a call that is late counts from when it was
due. With `--unit` they are five, who ask with whole seizures of ten clips, each hit another patient: fifty calls a
second, five times what an epilepsy-monitoring unit does. The index is left alone first; then a generation is
built from the same clips, published and taken up. One JSON object a figure on stdout.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from figures import figure, say
from search_overhead import fill

from index.errors import ServiceError
from index.processors import usable_cores
from index.query import PLAIN, ClipQuery, GroupBy, Options, VideoQuery
from index.tables.store import Store
from index.workspace import Workspace, set_current
from service.client import Client
from service.processes.starting import server_process

CLIENTS, UNIT, A_SECOND, AFTER_S = 16, 5, 10, 5.0
OF_PATIENTS = Options(group_by=GroupBy.PATIENT)


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser()
    options.add_argument("--quick", action="store_true", help="2,000 clips: proves that the script runs")
    options.add_argument("--clips", type=int, default=100_000)
    options.add_argument("--unit", action="store_true", help="whole seizures, 50 calls a second")
    options.add_argument("--ask", nargs=4, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.ask:
        ask(*chosen.ask)
        return
    clips, quiet_s = (2_000, 3.0) if chosen.quick else (chosen.clips, 30.0)
    clients_count = UNIT if chosen.unit else CLIENTS
    say(f"{usable_cores()} cores; {clips} clips")
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder) / "workspace")
        fill(workspace, clips)
        (workspace.encoders / "bench").mkdir(parents=True)
        set_current(workspace.encoders, "bench")
        ids = Path(folder) / "ids"
        stored = Store(workspace)
        names = sorted(stored.videos()) if chosen.unit else stored.clips("bench").clips.clip_ids.to_pylist()
        ids.write_text("\n".join(names[:: max(len(names) // 1000, 1)]))
        with server_process(workspace.root) as server:
            address = server["address"]
            build(workspace)  # of the kind that the next one is
            time.sleep(AFTER_S)
            calls = Path(folder) / "calls"
            clients = subprocess.Popen(
                [sys.executable, __file__, "--ask", address, str(ids), str(calls), str(clients_count)]
            )
            while not calls.exists():
                time.sleep(0.1)
            time.sleep(quiet_s)
            began = time.time()
            built_s = build(workspace)
            ended = time.time()
            time.sleep(AFTER_S)
            clients.terminate()
            clients.wait()
        report(clips, clients_count, np.loadtxt(calls), began, ended, built_s)


def build(workspace: Workspace) -> float:
    """Rebuild as cron would; returns seconds."""
    started = time.monotonic()
    command = [sys.executable, "-m", "semiome", "index", "build", "-w", str(workspace.root), "--kind", "ivf-rabitq"]
    subprocess.run([*command, "--force"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - started


def ask(address: str, ids: str, calls: str, clients: str) -> None:
    """Clients until they are ended; each call is a line: when it was due, seconds, failed, generation."""
    count, whole = int(clients), int(clients) == UNIT
    wanted = Path(ids).read_text(encoding="utf-8").split()
    lock, started = threading.Lock(), time.time() + 1
    stream = Path(calls).open("w", encoding="utf-8", buffering=1)  # noqa: SIM115  until the process is ended

    def client(number: int) -> None:
        random = np.random.default_rng(number)
        due = started + number / count / A_SECOND
        with Client(address) as connection:
            while True:
                time.sleep(max(due - time.time(), 0))
                failed, generation = 0, "0-0"
                try:
                    name = str(random.choice(wanted))
                    query, how = (VideoQuery(name), OF_PATIENTS) if whole else (ClipQuery(name), PLAIN)
                    generation = connection.search(query, 10, how).provenance.generation
                except ServiceError:
                    failed = 1
                with lock:
                    stream.write(f"{due:.6f} {time.time() - due:.6f} {failed} {int(generation.split('-')[0])}\n")
                due += 1 / A_SECOND

    for number in range(count):
        threading.Thread(target=client, args=(number,), daemon=True).start()
    threading.Event().wait()


def report(clips: int, clients: int, calls, began: float, ended: float, built_s: float) -> None:  # noqa: ANN001
    """The slowest hundredth during the rebuild against before it, and what failed."""
    due, seconds, failed, generation = calls.T
    before, during, after = due < began, (due >= began) & (due < ended), due >= ended
    say(
        f"{len(calls)} calls, {int(during.sum())} while it was built ({built_s:.1f} s); p50 before "
        f"{np.median(seconds[before]) * 1e3:.2f} ms, meanwhile {np.median(seconds[during]) * 1e3:.2f} ms, after "
        f"{np.median(seconds[after]) * 1e3:.2f} ms; generations {sorted(set(generation.astype(int)))}"
    )
    slow = np.sort(due[during][seconds[during] > 3 * np.quantile(seconds[before], 0.99)] - began)
    say(f"{len(slow)} slow ones, at seconds {sorted(set(slow.astype(int).tolist()))} of the build")
    quiet, busy = (float(np.quantile(seconds[part], 0.99)) * 1e3 for part in (before, during))
    name = f"p99 of {clients} clients while {clips} clips are indexed again"
    figure(name, busy, "ms", "p99 before", quiet, busy / quiet, 2.0, at_most=True)
    swapped = len(set(generation[failed == 0].astype(int))) > 1
    values = {"name": "failed calls over a swap", "ours": int(failed.sum()), "unit": "calls", "goal": 0}
    sys.stdout.write(json.dumps({**values, "calls": len(calls), "holds": swapped and not failed.any()}) + "\n")


if __name__ == "__main__":
    main()
