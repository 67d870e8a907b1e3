"""What a decoding child may ask of the kernel: to read, to compute, to answer. All other calls fail with EPERM.

The filter is made by libseccomp, which knows the numbers of calls on every kind of processor.
"""

from __future__ import annotations

import ctypes
import errno
import os

_ALLOWED = """
brk mmap munmap mremap mprotect madvise membarrier get_mempolicy
read readv pread64 preadv preadv2 write writev lseek close dup dup2 dup3 pipe2
stat fstat lstat newfstatat statx statfs fstatfs access faccessat faccessat2 readlink readlinkat getdents64 getcwd
fadvise64 poll ppoll select pselect6 epoll_create1 epoll_ctl epoll_wait epoll_pwait eventfd2
clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times getrusage getrlimit
futex rseq set_robust_list get_robust_list set_tid_address sched_yield sched_getaffinity getcpu
rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack restart_syscall exit exit_group
getpid gettid getppid getuid geteuid getgid getegid uname sysinfo getrandom
"""
"""Calls that change nothing beyond the process, whatever they are given."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | (os.O_TMPFILE & ~os.O_DIRECTORY)
_THREAD, _NAMESPACES = 0x10000, 0x7E020000
_ASKS_A_TERMINAL, _TO_READ, _NOT_BLOCKING, _CLOSED_ON_EXEC = 0x5401, 0x541B, 0x5421, 0x5451
_DESCRIPTORS_OWN = (0, 1, 2, 3, 4, 1030)  # to copy one, and its flags; not who gets a signal of it
_NAME, _OWN_NAME, _NAME_OF_MEMORY = 15, 16, 0x53564D41
_ALLOW, _ERROR, _MASKED, _EQUAL = 0x7FFF0000, 0x00050000, 7, 4
_ALL_THREADS = 4


class _Argument(ctypes.Structure):
    _fields_ = (
        ("number", ctypes.c_uint),
        ("how", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def filter_calls() -> bool:
    """From here on this process opens no file to write, and starts, signals and reaches no other process.

    Returns:
        Whether the kernel enforces it; False where libseccomp or the kernel's part of it is missing.
    """
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return False
    library.seccomp_init.restype = ctypes.c_void_p
    made = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_ERROR | errno.EPERM)))
    if not made:
        return False
    try:
        done = library.seccomp_attr_set(made, ctypes.c_int(_ALL_THREADS), ctypes.c_uint32(1)) == 0
        for name, action, argument in _rules():
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number == -1:  # newer than this libseccomp
                continue
            given = (_Argument * 1)(argument) if argument else None
            added = library.seccomp_rule_add_array(made, ctypes.c_uint32(action), number, 1 if argument else 0, given)
            done = done and added in (0, -errno.EDOM, -errno.EFAULT)  # no such call on this kind of processor
        return done and bool(library.seccomp_load(made) == 0)
    finally:
        library.seccomp_release(made)


def _rules() -> list[tuple[str, int, _Argument | None]]:
    def one_of(name: str, number: int, values: tuple[int, ...]) -> list[tuple[str, int, _Argument | None]]:
        return [(name, _ALLOW, _Argument(number, _EQUAL, value, 0)) for value in values]

    rules: list[tuple[str, int, _Argument | None]] = [(name, _ALLOW, None) for name in _ALLOWED.split()]
    rules += [(name, _ALLOW, _Argument(number, _MASKED, _WRITES, 0)) for name, number in (("open", 1), ("openat", 2))]
    rules += [("clone", _ALLOW, _Argument(0, _MASKED, _THREAD | _NAMESPACES, _THREAD))]
    rules += [("clone3", _ERROR | errno.ENOSYS, None)]  # what it is asked for can't be seen here; `clone` is used then
    rules += one_of("ioctl", 1, (_ASKS_A_TERMINAL, _TO_READ, _NOT_BLOCKING, _CLOSED_ON_EXEC))
    rules += one_of("fcntl", 1, _DESCRIPTORS_OWN)
    rules += one_of("prctl", 0, (_NAME, _OWN_NAME, _NAME_OF_MEMORY))
    rules += one_of("prlimit64", 2, (0,))  # to ask, not to change
    return rules + one_of("tgkill", 0, (os.getpid(),))  # as `abort` does
