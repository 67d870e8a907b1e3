"""Commands started without paying for imports: one process has imported everything, and forks for each that is asked.

A forked command is `python -m MODULE` in every way that its user could see: it has the asker's folder, environment and
streams, `__main__` is the module, exit status and signals are its own. What a fork can't show is whether a module
imports what it needs: `tests/semiome/test_starts.py` starts each command as a real process.

Forking beside other threads is unsafe: a lock that one of them holds is never released in the child. So the forge lets
none run: LanceDB's event loop is stopped (it starts anew in each child, as LanceDB does after a fork), the allocator of
Arrow has no thread of its own, numerical libraries have one each; it counts before each fork, and refuses.
"""

import array
import contextlib
import ctypes
import fcntl
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from pathlib import Path

FOLDER = "SEMIOME_FORGE"
"""Names the folder of the forge's socket, for all of pytest's processes."""
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "NUMBA_NUM_THREADS": "1",
    "GRPC_VERBOSITY": "NONE",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
_IMPORTED = (
    *(
        "lancedb",
        "faiss",
        "av",
        "encoder.video.decord_reader",
        "sklearn.linear_model",
        "transformers",
        "grpc",
        "torch.utils.tensorboard",
    ),
    *(
        "semiome.app",
        "semiome.demo",
        "encoder.job.pipeline",
        "encoder.job.dry_run",
        "encoder.job.bed_survey",
        "encoder.previews.library",
    ),
    *(
        "index.custody.doctor",
        "index.custody.erasure",
        "index.tables.exchange",
        "index.custody.backup",
        "index.search.compare",
        "index.feedback.export",
    ),
    *(
        "service.server.worker",
        "service.server.supervisor",
        "service.page.server",
        "service.rollout",
        "service.server.credentials",
    ),
    *(
        "trainer.pretraining.run",
        "trainer.study.report",
        "trainer.pretraining.stage0",
        "trainer.judging.calibrate",
        "trainer.judging.evaluate",
    ),
)
_STREAMS = (0, 1, 2)
_PDEATHSIG = 1
_STALLED_S = 10.0


class Forged:
    """A process that was forged; the part of `subprocess.Popen` that tests use."""

    def __init__(self, *arguments, module="semiome", cwd=None, env=None, stdin=None, stdout=None, stderr=None):
        """Start `python -m module *arguments`.

        Args:
            *arguments: of the command line.
            module: with a `main`.
            cwd: its folder; by default this process's.
            env: its whole environment; by default this process's.
            stdin: an open file; by default nothing.
            stdout: an open file or `subprocess.PIPE`; by default this process's.
            stderr: the same.
        """
        self.stdout, out = _stream(stdout, 1)
        self.stderr, err = _stream(stderr, 2)
        self.args, self.returncode, self._buffer = [module, *map(str, arguments)], None, b""
        request = {"module": module, "arguments": self.args[1:], "cwd": str(cwd or Path.cwd())}
        request["environment"] = dict(os.environ if env is None else env)
        with Path(os.devnull).open() as nothing:
            streams = [(stdin or nothing).fileno(), out, err]
            self._connection = _connected()
            data = json.dumps(request).encode() + b"\n"
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", streams))
            sent = self._connection.sendmsg([data], [rights])
            if data[sent:]:  # not even nothing can be sent to one that has answered in full, and closed
                self._connection.sendall(data[sent:])
        for wanted, descriptor in ((stdout, out), (stderr, err)):
            if wanted == subprocess.PIPE:
                os.close(descriptor)
        answered = self._line(None)
        if "refused" in answered:
            self._connection.close()
            self._close()
            raise RuntimeError(answered["refused"])
        self.pid = answered["pid"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.wait()
        self._close()

    def poll(self):
        """Its exit status as `subprocess` has it; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout=None):
        """The exit status, once it has ended."""
        if self.returncode is None:
            self.returncode = self._line(timeout)["status"]
            self._connection.close()
        return self.returncode

    def communicate(self, timeout=None):
        """All that it still says, and wait for its end."""
        said = {}

        def read(name, stream):
            said[name] = stream.read()

        streams = {name: stream for name in ("stdout", "stderr") if (stream := getattr(self, name)) is not None}
        readers = [threading.Thread(target=read, args=item, daemon=True) for item in streams.items()]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join(timeout)
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout)
        self._close()
        return said.get("stdout"), said.get("stderr")

    def send_signal(self, number):
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self):
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _line(self, timeout):
        self._connection.settimeout(None if timeout is None else max(timeout, 1e-6))
        while b"\n" not in self._buffer:
            try:
                received = self._connection.recv(4096)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout) from None
            if not received:
                raise RuntimeError("the forge has ended")
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def _close(self):
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()


def run(*arguments, **options):
    """`subprocess.run` of `python -m semiome *arguments` with its output captured; `options` as of `Forged`."""
    process = Forged(*arguments, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options})
    out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _stream(wanted, own):
    """What this process reads, and the descriptor that the other one writes to."""
    if wanted is None:
        return None, own
    if wanted != subprocess.PIPE:
        return None, (os.open(os.devnull, os.O_WRONLY) if wanted == subprocess.DEVNULL else wanted.fileno())
    ours, theirs = os.pipe()
    return os.fdopen(ours), theirs


def _connected():
    """To the forge, started by the first that needs it."""
    folder = Path(os.environ[FOLDER])
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "socket").exists():
            start(folder, os.environ["SEMIOME_FORGE_OWNER"])
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(folder / "socket"))
    except OSError as error:
        raise RuntimeError(f"the forge does not run: {(folder / 'log').read_text()[-2000:]}") from error
    return connection


def start(folder, owner, *more):
    """Start a forge with its socket and log in a folder, for as long as the process `owner` lives; see `main`."""
    with (folder / "log").open("w") as log:
        subprocess.run(
            [sys.executable, "-m", "tests.forge", str(folder), str(owner), *more],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            cwd=Path(__file__).resolve().parent.parent,
            env={**os.environ, **_ENVIRONMENT},
            start_new_session=True,
            check=False,
        )


def prepare():
    """Called by pytest's first process: where the forge will be, and for how long."""
    folder = tempfile.TemporaryDirectory(prefix="semiome-forge-")
    os.environ[FOLDER], os.environ["SEMIOME_FORGE_OWNER"] = folder.name, str(os.getpid())
    return folder


class Forge:
    """The process that forks."""

    def __init__(self, path, owner):
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._selector.register(self._listener, selectors.EVENT_READ, self._take)
        self._selector.register(os.pidfd_open(owner), selectors.EVENT_READ, self._end)
        self._ended = False

    def serve(self):
        """Fork until the owner is gone.

        Returns:
            In a child what to do; None at the end.
        """
        while not self._ended:
            for key, _ in self._selector.select():
                if (todo := key.data(key.fileobj)) is not None:
                    return todo
        return None

    def _end(self, _):
        self._ended = True

    def _take(self, listener):
        connection, _ = listener.accept()
        connection.settimeout(_STALLED_S)
        data, descriptors = b"", []
        with contextlib.suppress(OSError):  # one that stalls or goes away holds up no other
            data, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, len(_STREAMS))
            while not data.endswith(b"\n") and (more := connection.recv(1 << 20)):
                data += more
        if not data.endswith(b"\n"):
            return self._let_go(connection, descriptors)
        threads = _threads()
        if threads != 1:
            _say(connection, {"refused": f"the forge has {threads} threads, and can't fork safely"})
            return self._let_go(connection, descriptors)
        forge = os.getpid()
        pid = _forked()
        if pid:
            _say(connection, {"pid": pid})
            ended = os.pidfd_open(pid)
            self._selector.register(ended, selectors.EVENT_READ, lambda _: self._bury(pid, ended, connection))
            for descriptor in descriptors:
                os.close(descriptor)
            return None
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != forge:
            os._exit(1)  # the forge ended before that counted
        for descriptor, stream in zip(descriptors, _STREAMS, strict=True):
            os.dup2(descriptor, stream)
        self._let_go(connection, descriptors)
        for key in list(self._selector.get_map().values()):
            with contextlib.suppress(AttributeError):
                key.fileobj.close()
            if isinstance(key.fileobj, int):
                os.close(key.fileobj)
        self._selector.close()
        return json.loads(data)

    def _bury(self, pid, ended, connection):
        self._selector.unregister(ended)
        os.close(ended)
        _, status = os.waitpid(pid, 0)
        _say(connection, {"status": os.waitstatus_to_exitcode(status)})
        connection.close()

    @staticmethod
    def _let_go(connection, descriptors):
        connection.close()
        for descriptor in descriptors:
            os.close(descriptor)


def _threads():
    """How many there are; one that was joined may take a moment to be gone."""
    deadline = time.monotonic() + 1
    while (found := len(os.listdir("/proc/self/task"))) > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def _forked():
    with warnings.catch_warnings():  # of libraries that a fork beside their threads would break
        warnings.simplefilter("ignore")
        return os.fork()


def _say(connection, values):
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a test that was cut off waits for nothing
        connection.sendall(json.dumps(values).encode() + b"\n")


def _work(todo):
    """Be `python -m module`, to the end."""
    os.chdir(todo["cwd"])
    os.environ.clear()
    os.environ.update(todo["environment"])
    time.tzset()
    sys.modules["numpy"].random.seed()
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        errors = "backslashreplace" if name == "stderr" else None
        buffering = 1 if name == "stderr" else -1
        setattr(sys, name, open(number, mode, buffering, errors=errors, closefd=False))  # noqa: SIM115
    sys.path.insert(0, todo["cwd"])
    sys.argv = [todo["module"], *todo["arguments"]]
    status = 0
    try:
        runpy.run_module(todo["module"], run_name="__main__", alter_sys=True)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 0 if error.code is None else _complain(error.code)
    except KeyboardInterrupt:
        traceback.print_exc()
        sys.stderr.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:  # noqa: BLE001  as the interpreter does
        sys.excepthook(*sys.exc_info())
        status = 1
    threading._shutdown()
    importlib.import_module("atexit")._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _complain(text):
    sys.stderr.write(f"{text}\n")
    return 1


def _stop_lancedb():
    """End the event loop that LanceDB keeps in a thread; after a fork it starts another one."""
    from lancedb.background_loop import LOOP

    LOOP.loop.call_soon_threadsafe(LOOP.loop.stop)
    LOOP.thread.join()
    LOOP.loop.close()


def main():
    """Import everything, go on in the background, and fork until pytest is gone.

    A third argument keeps a thread running.
    """
    folder, owner, *with_a_thread = sys.argv[1:]
    for name in _IMPORTED:
        with contextlib.suppress(ModuleNotFoundError):  # torch, beside other Pythons
            importlib.import_module(name)
    _stop_lancedb()
    gc.collect()
    gc.freeze()  # what is shared stays shared
    forge = Forge(Path(folder) / "socket", int(owner))
    if _forked():
        os._exit(0)  # it is ready
    _stop_lancedb()
    if with_a_thread:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    if (todo := forge.serve()) is not None:
        _work(todo)


if __name__ == "__main__":
    main()
