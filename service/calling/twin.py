"""Write the client that waits from the one that awaits: `python -m service.calling.twin`; `--check` compares only.

The two differ in their names, in `async` and `await`, and in the transport below them, so that one text says both.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

SERVICE = Path(__file__).resolve().parents[1]
_WORDS = (
    ("A small typed client for programs that await.", "A small typed client for programs that wait."),
    (
        "`service.client`, for programs that wait, is written from this file by `python -m service.calling.twin`.",
        "Written from `service.aio_client` by `python -m service.calling.twin`: change that one.",
    ),
    ("; may be shared.", ". Threads may share it."),
    ("import AsyncIterator, Iterable, Sequence", "import Iterable, Iterator, Sequence"),
    ("service.calling.awaiting", "service.calling.waiting"),
    ("AioClient", "Client"),
    ("AsyncIterator", "Iterator"),
    ("__aenter__", "__enter__"),
    ("__aexit__", "__exit__"),
    ("grpc.aio.", "grpc."),
    ("async ", ""),
    ("await ", ""),
)


def waiting(awaiting: str) -> str:
    """The client that waits.

    Args:
        awaiting: text of the one that awaits.
    """
    text = awaiting
    for old, new in _WORDS:
        if old not in text:
            raise SystemExit(f"service/aio_client.py has no {old!r} any more: correct service/calling/twin.py")
        text = text.replace(old, new)
    text = re.sub(r"^( *)for (\w+) in (.+):\n\1    yield \2\n", r"\1yield from \3\n", text, flags=re.MULTILINE)
    imported = "from service.calling.waiting import Transport\n"  # goes to its place in the alphabet
    last = "from service.calling.requests import PAGE, POLL_S, STREAMED_ITEMS, Item, in_parts\n"
    return text.replace(imported, "").replace(last, last + imported)


def main() -> None:
    """Write it, or check that it is up to date."""
    text, path = waiting((SERVICE / "aio_client.py").read_text(encoding="utf-8")), SERVICE / "client.py"
    if "--check" in sys.argv[1:]:
        if path.read_text(encoding="utf-8") != text:
            raise SystemExit("service/client.py is out of date: run `python -m service.calling.generate_sync_client`")
        return
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
