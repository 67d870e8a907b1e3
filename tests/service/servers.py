"""Real server processes, for the length of a test's block."""

import json
import signal
import subprocess
import sys
from contextlib import contextmanager


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
    command = [sys.executable, "-m", "semiome", "serve", "-w", str(workspace.root), "--port", "0", "--json", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert line, process.communicate(timeout=30)[1]
        yield json.loads(line)
    finally:
        process.send_signal(end)
        try:
            _, log = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0, log
    assert "Traceback" not in log, log
