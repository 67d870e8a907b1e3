"""Where a call comes from: the address of the other end, as gRPC says it."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from urllib.parse import unquote

_REMEMBERED = 4096


@lru_cache(_REMEMBERED)
def address_of(peer: str) -> str:
    """The IP address of a peer, `local` for a socket of this machine, or empty.

    Args:
        peer: such as `ipv4:192.0.2.7:50334`, `ipv6:%5B2001:db8::7%5D:50334` or `unix:`.
    """
    kind, _, rest = unquote(peer).partition(":")
    if kind == "unix":
        return "local"
    host = rest.rpartition(":")[0].strip("[]")
    return as_address(host)


def as_address(text: str) -> str:
    """An IP address in its usual form; empty where the text is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def neighbourhood(address: str) -> str:
    """What is counted as one stranger: with one IPv6 address come the 2**64 beside it."""
    if ":" not in address:
        return address
    return str(ipaddress.ip_network(f"{address}/64", strict=False))
