"""A decoding child that was taken over: what it can still do once it is sandboxed, a line of JSON.

Called with its own file, another one, a port, a socket's path and a process to harm; and what the kernel is to lack.
"""

import ctypes
import errno
import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path

from encoder.video.sandbox import shut_in
from encoder.video.syscalls import _Argument

IO_URING_SETUP, PIDFD_OPEN, PTRACE, PROCESS_VM_READV = 425, 434, 101, 310  # x86-64
BPF, KEYCTL, CLONE = 321, 250, 56


def without(lacking):
    """A kernel, as far as this process can tell, that lacks some system calls: as an older one, or a container.

    `name` is a call, `name:number` one with that first argument.
    """
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(0x7FFF0000)))
    for name, _, first in (one.partition(":") for one in lacking):
        number = library.seccomp_syscall_resolve_name(name.encode())
        given = (_Argument * 1)(_Argument(0, 4, int(first or 0), 0))
        refused = ctypes.c_uint32(0x00050000 | 38)
        assert library.seccomp_rule_add_array(context, refused, number, 1 if first else 0, given) == 0
    assert library.seccomp_load(context) == 0


def call(number, *arguments):
    """A system call that Python has no name for."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *map(ctypes.c_long, arguments)) < 0:
        raise OSError(ctypes.get_errno(), "")


def forked():
    """A process of its own."""
    if os.fork() == 0:
        os._exit(0)


def in_a_namespace():
    """Ask for a thread with mounts of its own; which the kernel itself refuses with EINVAL if it gets so far."""
    try:
        call(CLONE, 0x10000 | 0x800 | 0x200 | 0x100 | 0x20000, 0, 0, 0, 0)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def threaded():
    """A thread, which decoders need."""
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()


def main():
    """Try everything."""
    own, other, inside, port, path, victim, *lacking = sys.argv[1:]
    own, other, inside, victim = Path(own), Path(other), Path(inside), int(victim)
    address = ("127.0.0.1", int(port))
    tcp, udp = (socket.socket(socket.AF_INET, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM))
    del tcp, udp
    if lacking:
        without(lacking)
    level = shut_in(own)
    tried = {
        "read its own file": own.read_bytes,
        "start a thread": threaded,
        "read another file": other.read_bytes,
        "list a folder": lambda: list(own.parent.iterdir()),
        "write to its own file": lambda: own.write_text("x"),
        "make a file": lambda: (inside / "new").write_text("x"),
        "cut a file": lambda: os.truncate(other, 0),
        "remove a file": lambda: other.unlink(),
        "rename a file": lambda: other.rename(inside / "renamed"),
        "change a mode": lambda: other.chmod(0o777),
        "change an owner": lambda: os.chown(other, 1, 1),
        "change a time": lambda: os.utime(other),
        "link a file": lambda: os.link(own, inside / "linked"),
        "TCP": lambda: socket.create_connection(address, 2).close(),
        "UDP": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", address),
        "UNIX socket": lambda: socket.socket(socket.AF_UNIX).connect(path),
        "abstract UNIX socket": lambda: socket.socket(socket.AF_UNIX).connect("\0" + path),
        "signal": lambda: os.kill(victim, signal.SIGUSR1),
        "signal a thread": lambda: call(234, victim, victim, signal.SIGUSR1),
        "fork": forked,
        "a namespace": in_a_namespace,
        "execute": lambda: os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {}),
        "trace": lambda: call(PTRACE, 16, victim, 0, 0),
        "read memory": lambda: call(PROCESS_VM_READV, victim, 0, 0, 0, 0, 0),
        "pidfd": lambda: call(PIDFD_OPEN, victim, 0),
        "io_uring": lambda: call(IO_URING_SETUP, 1, id(ctypes.create_string_buffer(256)) + 32),
        "bpf": lambda: call(BPF, 0, 0, 0),
        "keys": lambda: call(KEYCTL, 0, -3, 1),
        "priority": lambda: os.setpriority(os.PRIO_PROCESS, victim, 5),
        "limits of another": lambda: __import__("resource").prlimit(victim, 7, (64, 64)),
        "signals of a descriptor": lambda: __import__("fcntl").fcntl(0, 8, victim),
    }
    done = []
    for what, attempt in tried.items():
        try:
            attempt()
        except OSError:
            continue
        done.append(what)
    sys.stdout.write(json.dumps({"level": level, "done": done}))


if __name__ == "__main__":
    if sys.argv[1] == "--without":  # another command, on such a kernel
        without(sys.argv[2].split(","))
        os.execv(sys.argv[3], sys.argv[3:])
    main()
