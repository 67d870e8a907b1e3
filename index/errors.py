"""The errors Semiome raises on purpose. Everything else that escapes is a bug.

    SemiomeError
    ├── InvalidInput          what the caller gave is wrong, whatever the state
    │   └── ManifestErrors    every wrong cell of a manifest at once
    ├── NotFound              the id is well formed and nothing here has it
    ├── StateError            right request, wrong moment: something has to be done first
    │   ├── EncoderMismatch   vectors, heads or generations of two encoders were brought together
    │   ├── Locked            another process is committing
    │   └── CannotWrite       read-only, no permission, no more files: what was acknowledged is kept
    │       └── DiskFull      no space, no quota
    ├── DamagedData           stored bytes are not the bytes that were written
    ├── VideoRefused          one video file can't be used; the job goes on without it
    ├── NonFiniteLoss         training has diverged (trainer/pretraining/pretrain.py)
    └── ServiceError          a server answered with an error, or could not be reached

Messages name what was expected, what came and what to do. They may reach a remote client: they name ids, shapes
and versions, never a patient and never a path.
"""

from __future__ import annotations

import re


def shown_id(given: str) -> str:
    """An id of ours, as a message may show it; anything else that a caller gave may be a name and is not repeated."""
    return given if re.fullmatch("[0-9a-f]{16,64}", given) else "(not shown)"


class SemiomeError(Exception):
    """Base of all errors raised on purpose."""


class InvalidInput(SemiomeError):
    """The input is wrong whatever the state: fix the input.

    Attributes:
        field: which part of a request is wrong, where that is known: `options.k`.
    """

    def __init__(self, message: str, *, field: str = "") -> None:
        self.field = field
        super().__init__(message)


class ManifestErrors(InvalidInput):
    """All problems of one manifest, or of another table.

    Attributes:
        problems: one sentence each, with row, column, value and what is allowed.
    """

    def __init__(self, problems: list[str], table: str = "the manifest") -> None:
        self.problems = tuple(problems)
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in {table}"
        super().__init__("\n".join([count, *problems]))


class NotFound(SemiomeError):
    """A well-formed id that nothing here has."""


class StateError(SemiomeError):
    """The state does not allow it: the message says what to do first."""


class EncoderMismatch(StateError):
    """Two encoders' vectors, heads or generations were brought together."""

    def __init__(self, thing: str, found: str, expected: str) -> None:
        super().__init__(
            f"{thing} belongs to encoder {found}, but encoder {expected} is in use: "
            "vectors of two encoders can't be compared"
        )


class Unreachable(StateError):
    """Object storage does not answer just now: the same may work in a minute."""


class ErasedMeanwhile(StateError):
    """A patient was erased while an index with them was built."""

    def __init__(self) -> None:
        super().__init__("a patient was erased while the index was being built, so it was discarded: build it again")


class Locked(StateError):
    """Another process holds the committer's lock."""


class CannotWrite(StateError):
    """The system does not let this process write: read-only, without permission, or out of something it needs.

    Attributes:
        why: and what to do.
        path: what could not be written, where the system said it; for a local command, never for a client.
    """

    def __init__(self, why: str, path: str = "") -> None:
        self.why, self.path = why, path
        super().__init__(f"can't write: {why}")


class DiskFull(CannotWrite):
    """No space is left, or no quota."""

    def __init__(self) -> None:
        super().__init__(
            "the disk is full, or its quota is used up; everything acknowledged before is kept: free some space, then "
            "run the same command again"
        )


class CannotRead(StateError):
    """This account may not read something of the workspace, which says nothing of whether it is whole."""

    def __init__(self) -> None:
        super().__init__(
            "this account may not read all of the workspace: run this as the account that owns it, or give it what "
            "others have written (`chown -R`)"
        )


class OutOfMemory(StateError):
    """The machine, or a limit of this process, leaves no memory or no thread for it."""

    def __init__(self) -> None:
        super().__init__(
            "no memory or no thread is left, on this machine or within a limit (`ulimit -v` or `-u`, a container's): "
            "give more, or do less at once; everything acknowledged before is kept"
        )


class DamagedData(SemiomeError):
    """Stored bytes differ from what was written."""


class VideoRefused(SemiomeError):
    """One video can't be used. The text is the reason, without the file's name.

    Attributes:
        damaged: the file is cut or damaged, and what was read of it before the damage is right.
    """

    def __init__(self, reason: str, *, damaged: bool = False) -> None:
        self.damaged = damaged
        super().__init__(reason)


class ServiceError(SemiomeError):
    """A server could not be reached or answered with an error.

    Attributes:
        code: gRPC status name, such as `NOT_FOUND`.
        message: the status' own words.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"{code}: {message}")
