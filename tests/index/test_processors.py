"""Only the processors that this process may use are counted."""

import ctypes
import os
import subprocess
import sys

import pytest

from index.processors import usable_cores

HERE = len(os.sched_getaffinity(0))


def made_up(tmp_path, own, files):
    (tmp_path / "own").write_bytes(os.fsencode(own))
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return usable_cores(tmp_path / "groups", tmp_path / "own")


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),  # a container: its group is the root that it sees
        ("0::/\n", {"cpu.max": "max 100000\n"}, HERE),
        ("0::/pod/box\n", {"pod/cpu.max": "100000 100000\n", "pod/box/cpu.max": "max 100000\n"}, 1),  # the outer one
        ("0::/pod/box\n", {"cpu.max": "150000 100000\n"}, 1),  # of the host's path nothing is mounted
        ("0::/pod\n", {"pod/cpu.max": "20000 100000\n"}, 1),  # a fifth of one is one all the same
        ("0::/pod\n", {"pod/cpu.max": "6400000 100000\n"}, HERE),  # more than there are
        (
            "4:memory:/x\n3:cpu,cpuacct:/x\n",
            {"cpu/x/cpu.cfs_quota_us": "100000\n", "cpu/x/cpu.cfs_period_us": "100000"},
            1,
        ),
        ("3:cpu,cpuacct:/\n", {f"cpu,cpuacct/cpu.cfs_{n}_us": "100000" for n in ("quota", "period")}, 1),
        ("0::/x\n", {"unified/x/cpu.max": "100000 100000\n"}, 1),  # beside version 1
        ("3:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, HERE),
        ("3:cpuset:/\n", {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, HERE),
        ("0::/\n", {"cpu.max": "garbage\n"}, HERE),
        ("0::/\n", {"cpu.max": "100000 0\n"}, HERE),
        ("0::/a\x85b\n", {"a\x85b/cpu.max": "100000 100000\n"}, 1),  # a path may hold what ends lines elsewhere
        ("0::/a:b\n\nnonsense\n", {"a:b/cpu.max": "100000 100000\n"}, 1),
        ("0::/a\udcff\n", {"cpu.max": "100000 100000\n"}, 1),  # bytes that are no text
        ("", {}, HERE),
    ],
)
def test_a_quota_of_a_control_group_counts(tmp_path, own, files, cores):
    assert made_up(tmp_path, own, files) == cores


def test_where_there_are_no_control_groups_affinity_counts(tmp_path):
    assert usable_cores(tmp_path / "absent", tmp_path / "absent") == HERE


@pytest.mark.needs("taskset")
def test_a_process_bound_to_one_processor_counts_one():
    cpu = str(min(os.sched_getaffinity(0)))
    command = [sys.executable, "-c", "from index.processors import usable_cores; print(usable_cores())"]
    done = subprocess.run(["taskset", "-c", cpu, *command], capture_output=True, text=True, check=True)

    assert done.stdout == "1\n"


HEAPS = """
import ctypes, sys, threading
from index.processors import keep_few_heaps
if sys.argv[1] == "few":
    keep_few_heaps()
c, met = ctypes.CDLL(None), threading.Barrier(9)
c.malloc.restype = c.fopen.restype = ctypes.c_void_p
def work():
    c.malloc(1000)
    met.wait()
    met.wait()
for _ in range(8):
    threading.Thread(target=work).start()
met.wait()
c.malloc_info(0, ctypes.c_void_p(c.fopen(b"/dev/stdout", b"w")))
c.fflush(None)
met.wait()
"""


@pytest.mark.parametrize(("heaps", "wanted"), [("few", [2]), ("each", list(range(5, 12)))])
def test_threads_share_two_heaps(heaps, wanted):
    if not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("this C library has one heap")
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    command = [sys.executable, "-c", HEAPS, heaps]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.count("<heap nr=") in wanted
