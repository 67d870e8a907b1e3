"""What a decoding child gives up before it touches a patient's file: memory, other files, all other processes, a voice.

Landlock (Linux 5.13 or newer) keeps other files from it; a filter of system calls (libseccomp) keeps it from writing,
the network and other processes. Where the system has neither, limits on memory and time and the demuxer's allow-list
still hold.
"""

from __future__ import annotations

import ctypes
import importlib.util
import mmap
import os
import resource
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from encoder.video.syscalls import filter_calls
from index.errors import InvalidInput, StateError

_SYS_CREATE_RULESET, _SYS_ADD_RULE, _SYS_RESTRICT_SELF = 444, 445, 446
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FS_RIGHTS_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_ALL_NETWORK, _ALL_SCOPES = 0b11, 0b11
_MOST_PROCESSES = 4096
_PATIENCE_S = 60.0
LEAST_SANDBOX = "SEMIOME_LEAST_SANDBOX"
"""Variable of the environment: every decoder of a process, and of those that it starts, obeys it."""
LEVELS = ("limits", "files", "calls", "full")
"""Memory, time and demuxers alone; with other files out of reach; with a filter of system calls instead; with both."""
_PACKAGES = ("av", "decord", "numpy", "PIL", "encoder", "index")
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38


class _RulesetAttributes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("handled_access_fs", "handled_access_net", "scoped"))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def least_sandbox() -> str:
    """The level that the environment asks for; by default the system may enforce what it can.

    Raises:
        InvalidInput: If there is no such level.
    """
    asked = os.environ.get(LEAST_SANDBOX) or LEVELS[0]
    if asked not in LEVELS:
        raise InvalidInput(f"expected {', '.join(LEVELS)} in {LEAST_SANDBOX}, got {asked[:32]!r}")
    return asked


def capture_stderr(max_bytes: int) -> int:
    """Point stderr at an anonymous file that never leaves memory and holds at most `max_bytes`.

    Returns:
        Its descriptor: its size tells how much was complained. What was said is dropped with the process, because
        FFmpeg's messages can hold a file's name or bytes.
    """
    _limit(resource.RLIMIT_FSIZE, max_bytes)
    descriptor = os.memfd_create("stderr", os.MFD_CLOEXEC)
    os.dup2(descriptor, 2)
    return descriptor


def limit_resources(memory_bytes: int, cpu_s: int) -> None:
    """Bound address space and processor time, forbid core dumps, and die with the parent."""
    _limit(resource.RLIMIT_AS, memory_bytes)
    _limit(resource.RLIMIT_CPU, cpu_s)
    _limit(resource.RLIMIT_CORE, 0)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _limit(kind: int, most: int) -> None:
    """Bound a resource, unless it is bounded more tightly already, as batch systems do."""
    hard = resource.getrlimit(kind)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


def short_of_memory(size_bytes: int = 64 * 2**20) -> bool:
    """Whether this process could not get this much more memory; some of FFmpeg's decoders call that damaged data."""
    try:
        mmap.mmap(-1, size_bytes).close()
    except OSError:
        return True
    return False


def shut_in(*paths: Path) -> str:
    """From here on this process can read these files and Python's own libraries, and use no more of the system.

    Returns:
        How much of that the system enforces, one of `LEVELS`.
    """
    files = _allow_only(paths)
    calls = filter_calls()
    if not calls:  # no other process of this account can be started to get around its limits
        _limit(resource.RLIMIT_NPROC, _MOST_PROCESSES)
    return LEVELS[2 * calls + files]


def level_here() -> str:
    """How much of it the system enforces here, found by a process inside.

    Raises:
        StateError: If that process fails.
    """
    asked = [sys.executable, "-PB", "-m", "encoder.video.sandbox"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)  # noqa: S603  our own
    if done.stdout.strip() not in LEVELS:
        raise StateError("it can't be determined how far decoders are sandboxed here: run `semiome doctor`")
    return done.stdout.strip()


def check_level(level: str, least: str) -> None:
    """Whether decoders are sandboxed far enough.

    Raises:
        StateError: If it is not.
    """
    if LEVELS.index(level) < LEVELS.index(least):
        raise StateError(
            f"decoders are sandboxed at level {level} here, and at least {least} was asked for: "
            "docs/decoding.md says what each level needs"
        )


def _allow_only(paths: Sequence[Path]) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    abi = libc.syscall(_SYS_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if abi < 1:
        return False
    network, scopes = _ALL_NETWORK if abi >= 4 else 0, _ALL_SCOPES if abi >= 6 else 0
    attributes = _RulesetAttributes(_FS_RIGHTS_BY_ABI[min(abi, 5)], network, scopes)
    size = 24 if scopes else 16 if network else 8
    ruleset = libc.syscall(_SYS_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    try:
        for allowed in (*paths, *_libraries()):
            try:
                descriptor = os.open(allowed, os.O_PATH | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # a folder that a library might have had
            rule = _PathBeneath(_READ_FILE | (_READ_DIR if allowed.is_dir() else 0), descriptor)
            added = libc.syscall(_SYS_ADD_RULE, ruleset, 1, ctypes.byref(rule), ctypes.c_uint32(0))
            os.close(descriptor)
            if added != 0:
                return False
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return bool(libc.syscall(_SYS_RESTRICT_SELF, ruleset, ctypes.c_uint32(0)) == 0)
    finally:
        os.close(ruleset)


def _libraries() -> set[Path]:
    """Folders of Python's own library and of the packages that decoding uses, wherever each of them was found.

    That is not always where Python looks first: a cluster has modules on PYTHONPATH, an editable installation lies in
    a checkout. A wheel keeps the shared libraries that it brings in a folder beside its package.
    """
    folders = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        for location in (spec and spec.submodule_search_locations) or ():
            folder = Path(location)
            folders |= {folder, *folder.parent.glob("*.libs")}
    with Path("/proc/self/maps").open(encoding="utf-8", errors="replace") as maps:
        mapped = {line.split(maxsplit=5)[5].rstrip("\n") for line in maps if ".so" in line}
    return folders | {Path(library).parent for library in mapped if library.startswith("/")}


if __name__ == "__main__":
    sys.stdout.write(shut_in(Path(os.devnull)) + "\n")
    sys.stdout.flush()
    os._exit(0)
