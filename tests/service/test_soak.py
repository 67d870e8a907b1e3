"""Searches without a pause while indexes, heads and labels change under them: nothing fails and nothing piles up.

`SEMIOME_SOAK_S=120` makes it two minutes (`make soak`); `benchmarks/service.py --parts soak` goes on for half an hour.
"""

import os
import threading
import time
from pathlib import Path

import pytest

from index.errors import ServiceError
from index.query import VideoQuery
from service.client import Client
from tests.conftest import commit, install_head, make_cohort, publish_all
from tests.service.servers import running

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("SEMIOME_SOAK_S", "10"))


def open_files(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def resident_bytes(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_nothing_fails_and_nothing_piles_up_while_everything_changes(workspace):
    commit(workspace, make_cohort())
    publish_all(workspace)
    install_head(workspace)
    with running(workspace) as said:
        stop, failed, seen = threading.Event(), [], [[], []]

        def ask(mine):
            with Client(said["address"]) as client:
                while not stop.is_set():
                    try:
                        mine.append(client.search(VideoQuery("v0-0")).provenance)
                        client.classify(VideoQuery("v1-1"))
                    except ServiceError as error:
                        failed.append(error)

        asking = [threading.Thread(target=ask, args=(mine,), daemon=True) for mine in seen]
        for thread in asking:
            thread.start()
        files, memory, swaps, until = [], [], 0, time.monotonic() + SECONDS
        while time.monotonic() < until:
            publish_all(workspace)
            install_head(workspace, seed=swaps)
            swaps += 1
            time.sleep(max(SECONDS / 30, 0.5))
            files.append(open_files(said["pid"]))
            memory.append(resident_bytes(said["pid"]))
        stop.set()
        for thread in asking:
            thread.join()

    assert failed == []
    assert sum(map(len, seen)) > 5 * SECONDS
    for mine in seen:
        generations = [made.generation for made in mine]
        assert generations == sorted(generations)
        assert len(set(generations)) > swaps / 3
        assert len({made.head_id for made in mine}) > swaps / 3
    # While a generation is taken over, both are open for a moment: what piles up is seen in the lowest counts.
    half = len(files) // 2
    assert min(files[half:]) <= min(files[:half]) + 3
    assert min(memory[half:]) < 1.1 * max(memory[:half])
