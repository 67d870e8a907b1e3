"""Real server processes, for the length of a test's block."""

import json
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager

from tests.forge import Forged
from tests.waiting import PATIENCE_S


@contextmanager
def running(workspace, *options, end=signal.SIGTERM):
    """A server process on a free port; it must end cleanly, also where the block has ended it already.

    Args:
        workspace: what it serves.
        *options: further ones of `semiome serve`.
        end: the signal that ends it.

    Yields:
        What it says of itself when it is ready.
    """
    command = ["serve", "-w", workspace.bucket or workspace.root, "--port", "0", "--json", *options]
    with tempfile.TemporaryFile("w+") as log:  # a pipe that nobody reads would stop it once it is full
        process = Forged(*command, stdout=subprocess.PIPE, stderr=log)
        try:
            line = process.stdout.readline()
            assert line, _text(log)
            yield json.loads(line)
        except BaseException:
            sys.stderr.write(_text(log))  # what pytest shows of a test that failed
            raise
        finally:
            process.send_signal(end)
            try:
                process.communicate(timeout=PATIENCE_S)
            finally:
                process.kill()
        assert process.returncode == 0, _text(log)
        assert "Traceback" not in _text(log), _text(log)


def _text(stream):
    stream.seek(0)
    return stream.read()
