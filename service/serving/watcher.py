"""Keeps the newest state of a workspace in memory while it is served: index, rows, head, and who has been erased."""

from __future__ import annotations

import logging
import threading
import time

from encoder.head import Head, load_head
from encoder.model.kind import stored_kind
from encoder.signs import SignHeads, load_signs
from index.errors import DamagedData, SemiomeError, ServiceError
from index.search.loader import SnapshotLoader
from index.tables.blocklist import key_to_compare
from index.workspace import Workspace, current, read_pointer
from service.errors import type_and_place
from service.serving.state import ServingState

_PATIENCE_S, _AGAIN_S = 10.0, 0.2
"""Seconds a call waits for a look at the workspace that another one has begun."""

_logger = logging.getLogger(__name__)


class StateWatcher:
    """Follows a workspace; callers take `state` once and hold it to the end of their call.

    Attributes:
        state: the newest state.
        erasures: how often the list of the erased has changed since the start.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._exchanging = threading.Lock()
        self._withholding = threading.Lock()
        self._begun = 0
        self._erased_facts: object = ()
        self._serving = SnapshotLoader(workspace)
        self._complaint = ""
        self._key = key_to_compare(workspace)
        self._head: Head | None = None
        self.erasures = 0
        try:
            self._head = self._load_head()
        except SemiomeError as error:  # nothing is classified then; searches need none
            _logger.error("serving without a head: %s", error)
        else:
            if self._head is None:
                _logger.warning("serving without a head: searches are answered, verdicts are not: `semiome head train`")
        self._signs: SignHeads | None = None
        self._signs_damaged = False
        self._take_up_signs()
        snapshot = self._serving.snapshot
        kind = stored_kind(workspace.encoders, snapshot.encoder_id)
        self.state = ServingState(snapshot, self._head, self._key, kind, self._signs, self._signs_damaged)

    def refresh(self) -> None:
        """Take up a new generation, new labels or a new head; what can't be taken up is logged, and the old serves.

        Raises:
            ServiceError: If another thread has been at it for too long.
        """
        for last in (False, False, True):
            try:
                self.look()
            except ServiceError:
                raise
            except SemiomeError as error:
                self._complain(str(error))
            except (OSError, ValueError, RuntimeError) as error:  # an erasure removes the version that is read just now
                if last:
                    self._complain(f"the store can't be read ({type_and_place(error)})")
                    return
                time.sleep(_AGAIN_S)
                continue
            return

    def look(self) -> None:
        """Refresh for the thread whose duty it is.

        Raises:
            SemiomeError: If the store can't be read, so that it is not known who has been erased; the old rows serve,
                without those on the list.
            ServiceError: If another thread has been at it for too long.
        """
        begun = self._begun
        if not self._lock.acquire(timeout=_PATIENCE_S):
            raise ServiceError("UNAVAILABLE", "this server can't read its workspace: ask another one")
        try:
            if self._begun > begun:
                return  # it has been looked at since this was asked for
            self._begun += 1
            self._refresh()
        finally:
            self._lock.release()

    def is_behind(self, generation: str) -> bool:
        """Whether a generation is published that could not be taken up here."""
        try:
            published = read_pointer(self._workspace.generations, "CURRENT")
        except DamagedData:
            return False
        return published == generation != self.state.snapshot.name

    def erased_is_new(self) -> bool:
        """Whether the list of the erased is another one than has been taken up; one look at a file's facts."""
        return self._serving.erased_facts() != self._erased_facts

    def withhold_erased(self) -> None:
        """Answer nothing more of those on the list of the erased. Waits for no reading of the store.

        The list counts as taken up, and the erasure as known, only once what answers is exchanged: until then each call
        comes here, and waits.

        Raises:
            DamagedData: If the list can't be read.
        """
        with self._withholding:
            facts = self._serving.erased_facts()
            self._serving.withhold_erased()
            self._exchange()
            self.erasures, self._erased_facts = self._serving.erasures, facts

    def is_erased(self, patient_id: str) -> bool:
        """Whether a patient is on the list, see `SnapshotLoader.is_erased`."""
        return self._serving.is_erased(patient_id)

    def _refresh(self) -> None:
        try:
            self.withhold_erased()
            self._serving.refresh_rows()
        finally:
            self._exchange()
        try:
            self._serving.refresh_generation()
            head, encoder_id = self._load_head(), self._serving.snapshot.encoder_id
            # Trained before the index changes to its encoder, a head waits: verdicts go on meanwhile.
            if head is self._head or _fits(head, encoder_id) or not _fits(self._head, encoder_id):
                self._head = head
            self._take_up_signs()
        except SemiomeError as error:
            self._complain(str(error))
        except Exception as error:  # noqa: BLE001  a torn file may raise anything, and the server must outlive it
            self._complain(f"looking for a newer one failed with {type_and_place(error)}")
        else:
            self._complaint = ""
        self._exchange()

    def _exchange(self) -> None:
        """What was read last is what answers."""
        with self._exchanging:
            old, snapshot = self.state, self._serving.snapshot
            served = (old.snapshot, old.head, old.signs, old.signs_damaged)
            read = (snapshot, self._head, self._signs, self._signs_damaged)
            if all(one is other for one, other in zip(served, read, strict=True)):
                return
            kind = old.encoder_kind if snapshot.encoder_id == old.snapshot.encoder_id else ""
            kind = kind or stored_kind(self._workspace.encoders, snapshot.encoder_id)
            self.state = ServingState(snapshot, self._head, self._key, kind, self._signs, self._signs_damaged)
            _logger.info("serving %s", self.state.provenance)

    def _complain(self, what: str) -> None:
        if what != self._complaint:  # once, not every second
            self._complaint = what
            _logger.warning("still serving generation %s: %s", self.state.snapshot.name, what)

    def _load_head(self) -> Head | None:
        name, loaded = current(self._workspace.heads), self._head
        if name is None:
            return None
        return loaded if loaded is not None and loaded.head_id == name else load_head(self._workspace.heads, name)

    def _take_up_signs(self) -> None:
        """The sign heads in use; where they can't be read there are none, and callers learn why."""
        loaded, was_damaged = self._signs, self._signs_damaged
        try:
            name = current(self._workspace.signs)
            if name is None:
                self._signs = None
            elif loaded is None or loaded.signs_id != name:
                self._signs = load_signs(self._workspace.signs, name)
            self._signs_damaged = False
        except SemiomeError as error:
            self._signs, self._signs_damaged = None, True
            if not was_damaged:
                _logger.error("serving without sign heads: %s", error)


def _fits(head: Head | None, encoder_id: str) -> bool:
    return head is not None and head.card.encoder_id == encoder_id
