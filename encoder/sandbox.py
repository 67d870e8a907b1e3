"""What a decoding child gives up before it touches a patient's file: memory, other files, the network, a voice.

Linux only in its strictest part (Landlock, since 5.13): where the kernel has none, the limits on memory and the
demuxer's allow-list still hold.
"""

from __future__ import annotations

import ctypes
import importlib.util
import mmap
import os
import resource
import signal
import sysconfig
from pathlib import Path

_SYS_CREATE_RULESET, _SYS_ADD_RULE, _SYS_RESTRICT_SELF = 444, 445, 446
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FS_RIGHTS_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_ALL_NETWORK = 0b11
_PACKAGES = ("av", "decord", "numpy", "PIL", "encoder", "index")
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38


class _RulesetAttributes(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64), ("handled_access_net", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def capture_stderr(max_bytes: int) -> int:
    """Point stderr at an anonymous file that never leaves memory and holds at most `max_bytes`.

    Returns:
        Its descriptor: its size tells how much was complained. What was said is dropped with the process, because
        FFmpeg's messages can hold a file's name or bytes.
    """
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))
    descriptor = os.memfd_create("stderr", os.MFD_CLOEXEC)
    os.dup2(descriptor, 2)
    return descriptor


def limit_resources(memory_bytes: int) -> None:
    """Bound the address space, forbid core dumps, and die with the parent."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def short_of_memory(size_bytes: int = 64 * 2**20) -> bool:
    """Whether this process could not get so much more memory; some of FFmpeg's decoders call that damaged data."""
    try:
        mmap.mmap(-1, size_bytes).close()
    except OSError:
        return True
    return False


def allow_only(path: Path) -> bool:
    """From here on this process can read `path` and Python's own libraries, write nothing, and reach no TCP port.

    Returns:
        Whether the kernel enforces it; False where it has no Landlock.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    abi = libc.syscall(_SYS_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if abi < 1:
        return False
    attributes = _RulesetAttributes(_FS_RIGHTS_BY_ABI[min(abi, 5)], _ALL_NETWORK if abi >= 4 else 0)
    size = ctypes.sizeof(attributes) if abi >= 4 else 8
    ruleset = libc.syscall(_SYS_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    try:
        for allowed in (path, *_libraries()):
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
    found = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        for place in (spec and spec.submodule_search_locations) or ():
            folder = Path(place)
            found |= {folder, *folder.parent.glob("*.libs")}
    with Path("/proc/self/maps").open(encoding="utf-8", errors="replace") as maps:
        mapped = {line.split(maxsplit=5)[5].rstrip("\n") for line in maps if ".so" in line}
    return found | {Path(library).parent for library in mapped if library.startswith("/")}
