"""The `semiome` command: runs it, and turns what goes wrong into a message and an exit code.

0 done; 1 a bug; 2 wrong input; 3 finished, but some inputs were refused; 4 the state does not allow it; 130 and 143
interrupted by Ctrl-C, or a no to a question, and by SIGTERM.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress

from index.errors import CannotWrite, InvalidInput, NotFound, SemiomeError, ServiceError, VideoRefused
from index.processors import usable_cores

BUG, USAGE, SOME_REFUSED, STATE = 1, 2, 3, 4
INTERRUPTED, TERMINATED = 130, 143
_WRONG_INPUT = (InvalidInput, NotFound, VideoRefused)
_SERVICE_USAGE = ("INVALID_ARGUMENT", "NOT_FOUND")


def main() -> None:
    """Run the command line."""
    _open_closed_streams()
    os.umask(os.umask(0o077) | 0o077)  # whatever is written may hold patients: for this user alone
    # FAISS, torch and OpenMP's runtimes are loaded into one process: idle threads must not spin against each other.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's core writes a line for each TLS handshake that fails
    if sys.argv[1:2] != ["serve"]:  # which keeps a processor free to answer, and so counts for itself
        os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))  # they know nothing of a container's quota
    from semiome.app import app

    try:
        _check_temporary_folder()
        app()
    except SemiomeError as error:
        _complain(error)
        sys.exit(exit_code(error))
    except SystemExit as ending:  # the library exits with 1 when it is interrupted, which is for bugs
        from semiome.console import Terminated

        cause = getattr(ending.__context__, "__cause__", None)
        if isinstance(cause, KeyboardInterrupt):
            sys.exit(TERMINATED if isinstance(cause, Terminated) else INTERRUPTED)
        from typer import Abort

        if isinstance(ending.__context__, Abort):  # a question was answered with no
            sys.exit(INTERRUPTED)
        raise
    except Exception as error:
        from index.files.failures import failed_write, out_of_memory

        if (named := failed_write(error) or out_of_memory(error)) is None:
            raise
        _complain(named)
        sys.exit(STATE)


def _check_temporary_folder() -> None:
    """A TMPDIR that is gone, as after a batch job, ends work late: libraries that write there find out after hours.

    Raises:
        CannotWrite: If it can't be written.
    """
    named = os.environ.get("TMPDIR")
    if named and not (os.path.isdir(named) and os.access(named, os.W_OK | os.X_OK)):  # noqa: PTH112  pathlib is slow
        raise CannotWrite("TMPDIR names no folder that can be written: create it, or unset TMPDIR", named)


def _open_closed_streams() -> None:
    """Standard streams that were closed (`<&-`) become /dev/null: else the next file opened takes their number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def exit_code(error: SemiomeError) -> int:
    """The exit code an error raised on purpose ends the command with."""
    if isinstance(error, _WRONG_INPUT):
        return USAGE
    if isinstance(error, ServiceError):
        return USAGE if error.code in _SERVICE_USAGE else BUG if error.code == "INTERNAL" else STATE
    return STATE


def _complain(error: SemiomeError) -> None:
    local = f"can't use {error.path}: {error.why}" if isinstance(error, CannotWrite) and error.path else error
    with suppress(OSError):  # a full disk may be where these go
        sys.stderr.write(f"error: {local}\n")
        if "--json" in sys.argv:
            sys.stdout.write(json.dumps({"error": {"type": type(error).__name__, "message": str(error)}}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
