"""A place on S3-compatible object storage. The only file that knows obstore.

Where it lies and who may read it is said by the usual `AWS_…` variables, as LanceDB reads them. An object is written
whole or not at all; what several hosts may not do at once is decided by conditional writes, and by no clock.
"""

from __future__ import annotations

import math
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path
from threading import Event, Lock, Thread, current_thread, main_thread
from typing import Any, TypeVar

from index.errors import Locked, StateError, Unreachable
from index.files.place import Place

LEASE_S = 20.0
"""Seconds after which a writer that has shown no sign of life has died."""
_SIGNS_A_LEASE = 4
_PATIENCE_S = 300.0
"""Seconds for which a holder tries to show a sign of life, and a writer to write, before giving up."""
_AGAIN_S = 1.0
Result = TypeVar("Result")
_CODES = {
    "NoSuchBucket": "there is no such bucket: check the address",
    "InvalidAccessKeyId": "AWS_ACCESS_KEY_ID is not known to it",
    "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY is not the one of AWS_ACCESS_KEY_ID",
    "ExpiredToken": "the credentials have expired: get new ones, then run the same command again",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
    "AccessDenied": "these credentials may not do this in this bucket",
}
"""What S3's codes of errors mean."""


@lru_cache
def bucket(url: str) -> Bucket:
    """What lies below `s3://bucket/prefix`.

    Raises:
        StateError: If the extra that reads it is not installed, or the storage can't be reached.
    """
    return Bucket(url)


@contextmanager
def _named_errors() -> Iterator[None]:
    """Turn what the library raises into an error that names no place and no key.

    Raises:
        StateError: If the storage does not answer, or refuses us.
    """
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

    try:
        yield
    except (AlreadyExistsError, PreconditionError, FileNotFoundError):
        raise
    except BaseError as error:
        raise storage_error(error) from None


def _ask(work: Callable[[], Result]) -> Result:
    """Ask the storage, so that Ctrl-C is heard: the library waits for minutes, and hears no signal in its own code.

    Raises:
        StateError: If the storage does not answer, or refuses us.
    """
    if current_thread() is not main_thread():
        with _named_errors():
            return work()
    answered: Future[Result] = Future()

    def ask() -> None:
        try:
            with _named_errors():
                answered.set_result(work())
        except BaseException as error:  # noqa: BLE001  raised where it was asked
            answered.set_exception(error)

    Thread(target=ask, daemon=True).start()
    return answered.result()


def _patiently(work: Callable[[], Result], patience_s: float = _PATIENCE_S) -> Result:
    """Do what may be done twice, again and again while the storage is away: the library does so itself only to read.

    Raises:
        StateError: If the storage has not answered for minutes, or not to us.
    """
    until = _now_s() + patience_s
    while True:
        try:
            return _ask(work)
        except Unreachable:
            if _now_s() >= until:
                raise
        time.sleep(_AGAIN_S)


def storage_error(error: Exception) -> StateError:
    """What a library says of the storage, without places and keys: HTTP's status and S3's code, and what they mean."""
    text = str(error)
    status = re.search(r"status(?: code)?:? (\d{3})", text)
    code = re.search(r"<Code>(\w{1,64})</Code>", text)
    said = ", ".join([*([f"HTTP {status[1]}"] if status else ()), *([code[1]] if code else ())]) or type(error).__name__
    if status is None or not status[1].startswith("4") or status[1] in {"408", "429"}:
        fault = f"the object storage of this workspace does not answer as it should ({said})"
        return Unreachable(f"{fault}: check the network, or wait")
    means = _CODES.get(code[1] if code else "", "check the bucket and the AWS_… variables")
    return StateError(f"the object storage of this workspace refuses ({said}): {means}")


class Bucket(Place):
    """Objects below one prefix."""

    def __init__(self, url: str) -> None:
        self.address, self.remote = url, True
        try:
            from obstore.store import from_url
        except ImportError:
            raise StateError("a workspace on S3 needs the extra `s3`: pip install 'semiome[s3]'") from None
        with _named_errors():
            self._store: Any = from_url(url)

    def read(self, name: str) -> bytes | None:
        return self._read(name)[0]

    def write(self, name: str, data: bytes | Path) -> None:
        self._put(name, data)

    def create(self, name: str, data: bytes) -> bool:
        return self._put(name, data, "create") is not None

    def sizes(self, prefix: str) -> dict[str, int]:
        import obstore

        return _ask(
            lambda: {one["path"]: one["size"] for part in obstore.list(self._store, prefix=prefix) for one in part}
        )

    def folders(self, prefix: str) -> list[str]:
        import obstore

        found = _ask(lambda: obstore.list_with_delimiter(self._store, prefix=prefix)["common_prefixes"])
        return [path.rstrip("/").rsplit("/", 1)[-1] for path in found]

    def remove(self, names: Iterable[str]) -> None:
        import obstore

        if wanted := list(names):
            _patiently(partial(obstore.delete, self._store, wanted))

    def download(self, name: str, path: Path) -> None:
        import obstore

        def copy() -> None:
            with path.open("xb") as stream:
                for part in obstore.get(self._store, name).stream(min_chunk_size=1 << 23):
                    stream.write(part)

        try:
            _ask(copy)
        except FileNotFoundError:
            raise StateError("something has gone from the object storage while it was read: try again") from None

    def keeps_conditions(self) -> bool | None:
        """Whether of two who create the same object at once just one succeeds; without that, commits would be lost."""
        name = f".conditions-{secrets.token_hex(8)}"
        try:
            with ThreadPoolExecutor(2) as pool:
                created = list(pool.map(lambda who: self.create(name, who), (b"one", b"two")))
            e_tag = self._read(name)[1]
            first = self._put(name, b"three", {"e_tag": e_tag})
            second = self._put(name, b"four", {"e_tag": e_tag})
            return sum(created) == 1 and first is not None and second is None
        finally:
            self.remove([name])

    def stamp(self, name: str) -> object:  # noqa: ARG002  an object's facts cost a request, as its bytes do
        return None

    def settle(self, prefix: str, settled: dict[Path, int]) -> None:
        """Do nothing: an object that was written survives."""

    @contextmanager
    def reached(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, OSError, RuntimeError) as error:
            raise storage_error(error) from None

    @contextmanager
    def lease(self, name: str, what: str) -> Iterator[Callable[[], None]]:
        """A lock that outlives no holder: one that dies is overtaken after `LEASE_S`.

        The holder rewrites its lock object every few seconds. A process that wants it watches, by its own clock,
        whether it changes: whatever the hosts' clocks say does not matter.
        """
        holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        held = _Lease(self, name, holder, *self._take(name, holder, what))
        held.start()
        try:
            yield lambda: held.check(what)
        finally:
            held.end()

    def _take(self, name: str, holder: str, what: str) -> tuple[str, float]:
        """The lock object's tag, and when it was written at the earliest."""
        seen, until = "", 0.0
        while True:
            began = _now_s()
            e_tag = self._put(name, f"{holder} 0".encode(), "create")
            if e_tag is not None:
                return e_tag, began
            (said, there), now = self._read(name), _now_s()
            if said is not None and said.startswith(holder.encode()):
                return there, began  # its answer was lost
            if not seen or not there:
                seen, until = there, now + LEASE_S
            elif there != seen:
                raise Locked(f"{what} is held by another process: wait until it has finished, then run this again")
            elif now >= until:
                e_tag = self._put(name, f"{holder} 0".encode(), {"e_tag": seen})
                if e_tag is not None:
                    return e_tag, began
                seen = ""
            time.sleep(LEASE_S / _SIGNS_A_LEASE / 4)

    def _read(self, name: str) -> tuple[bytes | None, str]:
        import obstore

        def read() -> tuple[bytes, str]:
            found = obstore.get(self._store, name)
            return bytes(found.bytes()), str(found.meta["e_tag"])

        try:
            return _ask(read)
        except FileNotFoundError:
            return None, ""

    def _put(
        self,
        name: str,
        data: bytes | Path,
        mode: Any = "overwrite",  # noqa: ANN401
        patience_s: float = _PATIENCE_S,
    ) -> str | None:
        """The new object's tag; None where the condition did not hold, or holds no more once an answer was lost."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            put = partial(obstore.put, self._store, name, data, mode=mode)
            return str(_patiently(put, patience_s)["e_tag"])
        except (AlreadyExistsError, PreconditionError):
            return None
        except FileNotFoundError:
            if isinstance(mode, dict):
                return None  # what was to be replaced has gone
            raise StateError(
                "the object storage of this workspace knows no such bucket, or a file to store there has gone: check "
                "the address"
            ) from None


def _now_s() -> float:
    """Seconds of a clock that is never set and that runs on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class _Lease(Thread):
    """Keeps a lock object changing while its holder lives."""

    def __init__(self, place: Bucket, name: str, holder: str, e_tag: str, shown: float) -> None:
        super().__init__(daemon=True)
        self._place, self._name, self._holder, self._e_tag = place, name, holder, e_tag
        self._ended = Event()
        self._renewing = Lock()
        self._shown = shown
        self._number = 0

    def run(self) -> None:
        while not self._ended.wait(LEASE_S / _SIGNS_A_LEASE) and self._shown > -math.inf:
            with suppress(StateError):  # the network may come back in time
                self._renew()

    def _renew(self) -> None:
        """Show a sign of life, unless another has taken over.

        Raises:
            StateError: If the storage does not answer.
        """
        with self._renewing:
            self._number += 1
            began = _now_s()
            said = f"{self._holder} {self._number}".encode()
            e_tag = self._place._put(self._name, said, {"e_tag": self._e_tag}, patience_s=0)
            if e_tag is None:  # overtaken; or a sign came through whose answer was lost
                data, there = self._place._read(self._name)
                own = data is not None and data.startswith(f"{self._holder} ".encode())
                e_tag = there if own else None
            if e_tag is None:
                self._shown = -math.inf
            else:
                self._e_tag, self._shown = e_tag, began

    def check(self, what: str) -> None:
        """Check that this is still the holder; one that could not show a sign of life for a while does so now.

        Raises:
            Locked: If another process has taken over.
            Unreachable: If the storage has not answered for minutes.
        """
        until = _now_s() + _PATIENCE_S
        while _now_s() - self._shown > LEASE_S / 2:
            if self._shown == -math.inf:
                raise Locked(f"{what} was lost to another process while the object storage was away: run this again")
            try:
                self._renew()
            except Unreachable:
                if _now_s() >= until:
                    raise
                time.sleep(_AGAIN_S)

    def end(self) -> None:
        self._ended.set()
        self.join()
        with suppress(StateError):  # then it is overtaken after a while
            if self._place._read(self._name)[1] == self._e_tag:
                self._place.remove([self._name])
