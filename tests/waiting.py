"""Waiting for what another process or thread does, as long as a slow and busy machine may need for it."""

import os
import time
from pathlib import Path

PATIENCE_S = 120.0
"""What takes longer has failed: generous, for a test is no measurement."""


def until(condition, says=lambda: ""):
    """Wait for a condition to be true.

    Args:
        condition: called again and again; what it raises ends the wait.
        says: what to say when it never came true.

    Returns:
        What the condition gave.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, says()
        time.sleep(0.02)
    return found


def cpu_s(pid):
    """Seconds of a processor's time that a process has used, which no other process' work adds to."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
