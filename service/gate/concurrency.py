"""Who holds the places of a worker: calls at once are few, and no caller holds them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from service.errors import TooMuch
from service.roles import Caller, Role

_RETRY_S = 0.1
_WATCHERS, _WATCHERS_OF_ONE, _WATCH_RETRY_S = 64, 16, 10.0
_PART = 8
"""One part in this many of all places is kept for administrators, and as many is what another caller may hold."""


class CallSlots:
    """Counts calls at once.

    A caller who signs in holds an eighth of the places at most, and the last eighth is for administrators alone: an
    erasure finds a place, whatever readers hold. Without sign-in all are one caller, and an administrator.

    Args:
        most: number of places.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._each = max(most // _PART, 1)
        self._held: Counter[str] = Counter()
        self.taken = 0

    def take(self, caller: Caller) -> None:
        """Give a call a place, which `give_back` takes from it.

        Raises:
            TooMuch: If there is none, or the caller holds enough.
        """
        administers = Role.ADMIN in caller.roles
        most = self._most if administers else self._most - self._each * (self._most > 1)
        if self.taken >= most:
            raise TooMuch(f"{most} calls are being answered already: try again shortly", _RETRY_S, "calls at once")
        if not administers and self._held[caller.identity] >= self._each:
            raise TooMuch(
                f"expected at most {self._each} calls at once of one caller: try again when one has been answered",
                _RETRY_S,
                "calls at once of one caller",
            )
        self._held[caller.identity] += 1
        self.taken += 1

    def give_back(self, caller: Caller) -> None:
        """A call has been answered."""
        self.taken -= 1
        self._held[caller.identity] -= 1
        if not self._held[caller.identity]:
            del self._held[caller.identity]


class Hold:
    """The place of one call, held for as long as there is a reason: its answer is under way, a thread works for it.

    Args:
        give_back: gives the place back; called once.
    """

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back = give_back
        self._reasons = 1

    def keep(self) -> None:
        """One more reason."""
        self._reasons += 1

    def let_go(self) -> None:
        """One less; the last one gives the place back."""
        self._reasons -= 1
        if not self._reasons:
            self._give_back()


class Watching:
    """Counts who asks for the server's health, by address: it needs no sign-in.

    Args:
        most: largest number at once.
        of_one: at once, of one address.
    """

    def __init__(self, most: int = _WATCHERS, of_one: int = _WATCHERS_OF_ONE) -> None:
        self._most, self._of_one = most, of_one
        self._by_address: Counter[str] = Counter()

    def take(self, address: str) -> None:
        """One more.

        Raises:
            TooMuch: If there are enough, from everywhere or from this address.
        """
        if self._by_address.total() >= self._most or self._by_address[address] >= self._of_one:
            raise TooMuch("others ask for this server's health already: try again shortly", _WATCH_RETRY_S, "watchers")
        self._by_address[address] += 1

    def give_back(self, address: str) -> None:
        """One has gone."""
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
