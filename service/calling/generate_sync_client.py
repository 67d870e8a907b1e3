"""Write the synchronous client from the asynchronous one; with `--check`, compare only.

The two differ in their names, in `async` and `await`, and in the transport below them, so that one text says both.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

SERVICE = Path(__file__).resolve().parents[1]
_WORDS = (
    ("A small typed asynchronous client.", "A small typed client."),
    (
        "`service.client` is written from this file by `python -m service.calling.generate_sync_client`.",
        "Written from `service.aio_client` by `python -m service.calling.generate_sync_client`: change that one.",
    ),
    ("; may be shared.", ". Threads may share it."),
    ("import AsyncIterator, Iterable, Sequence", "import Iterable, Iterator, Sequence"),
    ("service.calling.async_transport", "service.calling.sync_transport"),
    ("AioClient", "Client"),
    ("AsyncIterator", "Iterator"),
    ("__aenter__", "__enter__"),
    ("__aexit__", "__exit__"),
    ("grpc.aio.", "grpc."),
    ("async ", ""),
    ("await ", ""),
)


def synchronous(asynchronous: str) -> str:
    """Text of the synchronous client.

    Args:
        asynchronous: text of the asynchronous one.
    """
    text = asynchronous
    for old, new in _WORDS:
        if old not in text:
            raise SystemExit(
                f"service/aio_client.py has no {old!r} any more: correct service/calling/generate_sync_client.py"
            )
        text = text.replace(old, new)
    text = re.sub(r"^( *)for (\w+) in (.+):\n\1    yield \2\n", r"\1yield from \3\n", text, flags=re.MULTILINE)
    imported = "from service.calling.sync_transport import Transport\n"  # goes to its place in the alphabet
    last = "from service.calling.requests import PAGE, POLL_S, STREAMED_ITEMS, Item, in_parts\n"
    return text.replace(imported, "").replace(last, last + imported)


def main() -> None:
    """Write it, or check that it is up to date."""
    text, path = synchronous((SERVICE / "aio_client.py").read_text(encoding="utf-8")), SERVICE / "client.py"
    if "--check" in sys.argv[1:]:
        if path.read_text(encoding="utf-8") != text:
            raise SystemExit("service/client.py is out of date: run `python -m service.calling.generate_sync_client`")
        return
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
