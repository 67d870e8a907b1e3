"""The service beside an empty grpc.aio server with the same messages: speed, batches, streams, overload, a long run.

    .venv/bin/python benchmarks/service_calls.py [--quick] [--parts search workers batch classify overload soak milvus]
        [--soak-minutes 30] [--milvus PYTHON]

Stores and indexes 100,000 made-up clips (`cohorts.py`), serves them with `semiome serve`, and loads that server and an
empty one in turn (A B A B, medians) with the same requests from the same load process (`service_load.py`). Server and
load share this machine's cores. PYTHON is an interpreter that has milvus-lite and pymilvus. One JSON object a figure on
stdout, words on stderr.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
from cohorts import WIDTH
from figures import figure, say
from service_load import SEARCH, process, run_load, write_requests
from service_store import fill

from index.processors import usable_cores
from index.query import PLAIN, ClipQuery
from index.tables.store import Store
from index.workspace import Workspace
from service.calling import requests as calls
from service.calling.connection import Connection
from service.client import Client
from service.messages import convert

PARTS = ("search", "workers", "batch", "classify", "overload", "soak", "milvus")
CLIENTS, K, IN_BATCH = 64, 10, 256
TRIES = Connection("").tries
"""Pauses of the package's clients, for calls that were refused."""
BATCH = "/semiome.v1.RetrievalService/SearchBatch"


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser()
    options.add_argument("--quick", action="store_true", help="2,000 clips and a second each: proves that it runs")
    options.add_argument("--parts", nargs="*", default=PARTS[:-1], choices=PARTS)
    options.add_argument("--soak-minutes", type=float, default=30.0)
    options.add_argument("--milvus", type=Path, help="an interpreter with milvus-lite and pymilvus")
    chosen = options.parse_args()
    clips, seconds, rounds = (2_000, 1.0, 1) if chosen.quick else (100_000, 6.0, 5)
    say(f"{usable_cores()} cores, {psutil.virtual_memory().total >> 30} GiB; {clips} clips of {WIDTH} values")
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch), clips, seconds, rounds)
        for part in chosen.parts:
            say(f"--- {part}")
            if part == "soak":
                bench.soak(0.2 if chosen.quick else chosen.soak_minutes)
            elif part == "milvus":
                bench.milvus(chosen.milvus)
            else:
                getattr(bench, part)()


class Bench:
    """A stored cohort and requests about it."""

    def __init__(self, folder: Path, clips: int, seconds: float, rounds: int) -> None:
        self.folder, self.clips, self.seconds, self.rounds = folder, clips, seconds, rounds
        self.workspace = Workspace(folder / "workspace")
        fill(self.workspace, clips)
        self.ids = Store(self.workspace).clips("bench").clips.clip_ids.to_pylist()
        asked = np.random.default_rng(1).choice(len(self.ids), min(2_000, clips), replace=False)
        self.asked = [self.ids[row] for row in asked]
        self.requests = folder / "requests.npz"
        searches = [convert.search_request(ClipQuery(one), K, PLAIN, 0, "") for one in self.asked]
        write_requests(self.requests, [request.SerializeToString() for request in searches])
        batches = [calls.search_batch([ClipQuery(one) for one in self._some(n)], K, PLAIN).request for n in range(8)]
        self.batches = folder / "batches.npz"
        write_requests(self.batches, [request.SerializeToString() for request in batches])

    @contextmanager
    def servers(self, *options: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Ours and an empty one that gives ours' answers."""
        with self.ours(*options) as ours:
            answers = self.folder / "answers"
            answers.mkdir(exist_ok=True)
            with grpc.insecure_channel(ours["address"]) as channel, np.load(self.requests) as requests:
                (answers / "Search").write_bytes(channel.unary_unary(SEARCH)(requests["arr_0"].tobytes()))
            with grpc.insecure_channel(ours["address"]) as channel, np.load(self.batches) as requests:
                (answers / "SearchBatch").write_bytes(channel.unary_unary(BATCH)(requests["arr_0"].tobytes()))
            with process(str(Path(__file__).with_name("service_load.py")), "empty", str(answers)) as empty:
                yield ours, empty

    def ours(self, *options: str) -> Any:  # noqa: ANN401
        """`semiome serve` as a process of its own."""
        return process("-m", "semiome", "serve", "-w", str(self.workspace.root), "--port", "0", "--json", *options)

    def search(self) -> None:
        """One worker beside the empty server: calls a second, and the slowest hundredth."""
        with self.servers() as (ours, empty):
            pairs = in_turn(
                self.rounds,
                lambda: run_load(empty["address"], self.requests, SEARCH, CLIENTS, self.seconds),
                lambda: run_load(ours["address"], self.requests, SEARCH, CLIENTS, self.seconds),
            )
        theirs, mine = ([pair[side] for pair in pairs] for side in (0, 1))
        check(mine)
        name = f"Search of {self.clips} clips, k = {K}, {CLIENTS} clients, one worker"
        compare(name, mine, theirs, "calls/s", lambda run: run["a_second"], "empty grpc.aio server", 0.8)
        compare(f"{name}, p99", mine, theirs, "ms", lambda run: run["ms"]["p99"], "its p99", 2.0, at_most=True)
        compare(f"{name}, p50", mine, theirs, "ms", lambda run: run["ms"]["p50"], "its p50", None)

    def workers(self) -> None:
        """Two workers beside one."""
        with self.ours() as one, self.ours("--workers", "2") as two:
            pairs = in_turn(
                self.rounds,
                lambda: run_load(one["address"], self.requests, SEARCH, CLIENTS, self.seconds),
                lambda: run_load(two["address"], self.requests, SEARCH, CLIENTS, self.seconds),
            )
        alone, both = ([pair[side] for pair in pairs] for side in (0, 1))
        check(both)
        cores = usable_cores()
        say(f"{cores} cores for the load, its server and their threads" + ("" if cores > 3 else ": too few to scale"))
        compare("Search, two workers", both, alone, "calls/s", lambda run: run["a_second"], "one worker", 1.6)

    def batch(self) -> None:
        """Batches beside single calls."""
        with self.ours() as ours:
            pairs = in_turn(
                self.rounds,
                lambda: run_load(ours["address"], self.requests, SEARCH, CLIENTS, self.seconds),
                lambda: run_load(ours["address"], self.batches, BATCH, 8, self.seconds),
            )
        single, batches = ([pair[side] for pair in pairs] for side in (0, 1))
        check(batches)
        for run in batches:
            run["a_second"] *= IN_BATCH
        name = f"SearchBatch of {IN_BATCH}, queries"
        compare(
            name, batches, single, "queries/s", lambda run: run["a_second"], f"single calls, {CLIENTS} clients", 5.0
        )

    def classify(self) -> None:
        """Verdicts on stored embeddings in a stream, by the client of the package and by a bare one."""
        items = [ClipQuery(one) for one in self.ids]
        requests = [calls.classify_stream_request(items[n : n + 1000]) for n in range(0, len(items), 1000)]
        parts = [request.SerializeToString() for request in requests]
        rates = []
        with self.ours() as ours, grpc.insecure_channel(ours["address"]) as channel:
            method = channel.stream_stream(calls.CLASSIFY_STREAM)
            list(method(iter(parts[:5])))
            for _ in range(self.rounds):
                started = time.perf_counter()
                answers = sum(1 for _ in method(iter(parts)))
                rates.append(len(items) / (time.perf_counter() - started))
                assert answers == len(parts)
            with Client(ours["address"]) as client:
                started = time.perf_counter()
                assert all(one.code == "OK" for one in client.classify_stream(items))
                say(f"by the Python client, as records: {len(items) / (time.perf_counter() - started):.0f} clips/s")
        rate = statistics.median(rates)
        figure("ClassifyStream over stored embeddings", rate, "clips/s", "goal", 20_000, rate / 20_000, 1.0)

    def overload(self) -> None:
        """Calls that come twice as fast as they can be answered."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with self.ours("--metrics-port", str(port)) as ours:
            most = statistics.median(
                run_load(ours["address"], self.requests, SEARCH, CLIENTS, self.seconds)["a_second"]
                for _ in range(self.rounds)
            )
            rate = sustainable(
                lambda rate: run_load(ours["address"], self.requests, SEARCH, 0, self.seconds, rate), most
            )
            calm = run_load(ours["address"], self.requests, SEARCH, 0, 2 * self.seconds, rate)
            wild = run_load(ours["address"], self.requests, SEARCH, 0, 2 * self.seconds, 2 * rate)
            codes = codes_of_searches(port)
        say(f"closed loop {most:.0f} calls/s; sustained on a clock {rate:.0f}; calm {calm}; twice that {wild}")
        refused = wild["refused_ms"] or {"p50": 0.0, "p99": 0.0, "max": 0.0}
        figure(
            "refusals at twice the load, p99",
            refused["p99"],
            "ms",
            "goal",
            100,
            refused["p99"] / 100,
            1.0,
            at_most=True,
        )
        ratio = wild["ms"]["p99"] / calm["ms"]["p99"]
        figure(
            "accepted at twice the load, p99",
            wild["ms"]["p99"],
            "ms",
            "at the load",
            calm["ms"]["p99"],
            ratio,
            2.0,
            at_most=True,
        )
        health = wild["health_ms"]["max"]
        figure("health at twice the load, slowest", health, "ms", "goal", 1000, health / 1000, 1.0, at_most=True)
        # CANCELLED are the calls that a closed loop leaves under way at its end.
        holds = set(codes) <= {"OK", "RESOURCE_EXHAUSTED", "CANCELLED"}
        values = {"name": "codes of Search", "ours": codes, "holds": holds}
        sys.stdout.write(json.dumps(values) + "\n")

    def soak(self, minutes: float) -> None:
        """Minutes at 70 % of the load it can bear, with a new generation each minute."""
        with self.ours() as ours:
            most = run_load(ours["address"], self.requests, SEARCH, CLIENTS, self.seconds)["a_second"]
            rate = 0.7 * sustainable(
                lambda rate: run_load(ours["address"], self.requests, SEARCH, 0, self.seconds, rate), most
            )
            say(f"{rate:.0f} calls/s for {minutes:g} minutes")
            stop, swaps, samples = threading.Event(), [0], []
            beside = threading.Thread(target=self._swap, args=(stop, swaps, ours["pid"], samples))
            beside.start()
            run = run_load(ours["address"], self.requests, SEARCH, 0, minutes * 60, rate, TRIES)
            stop.set()
            beside.join()
        failed = run["refused"]
        say(f"{run['calls']} calls, {failed} failed, {run['again']} tries made again, {swaps[0]} swaps; {run['ms']}")
        values = {
            "name": f"failed calls in {minutes:g} minutes with {swaps[0]} swaps",
            "ours": failed,
            "calls": run["calls"],
        }
        sys.stdout.write(json.dumps({**values, "goal": 0, "holds": not failed}) + "\n")
        at, resident, own, files = np.array(samples[len(samples) // 5 :]).T
        for what, sizes in (("resident memory", resident), ("of it the process's own, not mapped files", own)):
            slope = float(np.polyfit(at, sizes, 1)[0] * 3600 / sizes.mean() * 100)
            name = f"{what} ({sizes.mean() / 2**20:.0f} MiB), slope"
            figure(name, slope, "% an hour", "goal", 1.0, slope, 1.0, at_most=True)
        grown = float(files[-5:].mean() - files[:5].mean())
        figure(
            "file descriptors, growth", grown, "files", "at first", float(files[:5].mean()), grown, 1.0, at_most=True
        )

    def milvus(self, python: Path | None) -> None:
        """Beside Milvus Lite's endpoint: the own patient left out by a filter, on the same data."""
        if python is None:
            say("left out: name an interpreter with --milvus")
            return
        with self.ours() as ours:
            mine = run_load(ours["address"], self.requests, SEARCH, CLIENTS, self.seconds)["a_second"]
        child = str(Path(__file__).with_name("service_milvus.py"))
        done = subprocess.run(
            [str(python), child, str(self.clips), str(self.seconds)], stdout=subprocess.PIPE, text=True, check=True
        )
        theirs = json.loads(done.stdout.splitlines()[-1])
        say(f"Milvus Lite: {theirs}")
        name = f"filtered queries of {self.clips} clips"
        figure(name, mine, "queries/s", "Milvus Lite", theirs["a_second"], mine / theirs["a_second"], 10.0)

    def _some(self, number: int) -> list[str]:
        start = number * IN_BATCH % max(len(self.asked) - IN_BATCH, 1)
        return (self.asked * 2)[start : start + IN_BATCH]

    def _swap(self, stop: threading.Event, swaps: list[int], pid: int, samples: list[tuple[float, ...]]) -> None:
        watched, started, next_swap = psutil.Process(pid), time.monotonic(), 60.0
        while not stop.wait(2.0):
            now = time.monotonic() - started
            memory = watched.memory_info()
            samples.append((now, memory.rss, memory.rss - memory.shared, watched.num_fds()))
            if now >= next_swap:
                command = [
                    "-m",
                    "semiome",
                    "index",
                    "build",
                    "-w",
                    str(self.workspace.root),
                    "--json",
                    "--encoder",
                    "bench",
                ]
                subprocess.run(
                    [sys.executable, *command, "--force"],
                    check=True,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                swaps[0] += 1
                next_swap = time.monotonic() - started + 60.0
                collect = ["-m", "semiome", "index", "gc", "-w", str(self.workspace.root), "--keep", "1", "--json"]
                subprocess.run([sys.executable, *collect], check=True, stdout=subprocess.DEVNULL)


def in_turn(rounds: int, *measure: Callable[[], dict[str, Any]]) -> list[tuple[dict[str, Any], ...]]:
    """Each of them once, then again."""
    for one in measure:
        one()  # warm
    return [tuple(one() for one in measure) for _ in range(rounds)]


def sustainable(attempt: Callable[[float], dict[str, Any]], most: float) -> float:
    """The highest tried rate of which nothing is refused and that is kept up with."""
    for share in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3):
        run = attempt(share * most)
        if not run["refused"] and run["a_second"] > 0.97 * share * most and run["ms"]["p99"] < 250:
            return share * most
    return 0.2 * most


def codes_of_searches(port: int) -> dict[str, int]:
    """How many calls of Search ended with each code, as the server's metrics say."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.findall(r'grpc_server_handled_total\{grpc_code="(\w+)",grpc_method="Search",.*\} ([\d.]+)', text)
    return {code: int(float(count)) for code, count in found}


def check(runs: list[dict[str, Any]]) -> None:
    """Nothing may have failed: a refusal is sooner made than an answer."""
    failed = [run["refused"] for run in runs if run["refused"]]
    if failed:
        raise SystemExit(f"calls failed: {failed}")


def compare(
    name: str,
    ours: list[dict[str, Any]],
    theirs: list[dict[str, Any]],
    unit: str,
    value: Callable[[dict[str, Any]], float],
    against: str,
    goal: float | None,
    *,
    at_most: bool = False,
) -> None:
    """A figure of medians."""
    mine, other = (statistics.median(map(value, runs)) for runs in (ours, theirs))
    figure(name, mine, unit, against, other, mine / other, goal, at_most=at_most)


if __name__ == "__main__":
    main()
