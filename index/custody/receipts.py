"""Receipts of erasures: signed with the workspace's key, so that a later change shows."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from typing import Any

from index.tables.blocklist import workspace_key
from index.workspace import ERASURES, Workspace


def signed(key: bytes, values: dict[str, Any]) -> dict[str, Any]:
    """Values with their signature, an HMAC-SHA-256.

    Args:
        key: the workspace's.
        values: values that JSON can hold.
    """
    text = json.dumps(values, sort_keys=True).encode()
    return {**values, "signature": hmac.new(key, b"receipt/" + text, hashlib.sha256).hexdigest()}


def write_receipt(workspace: Workspace, receipt: dict[str, Any], at: str, kind: str = "") -> None:
    """Put a receipt beside the others.

    Args:
        workspace: to which it belongs.
        receipt: as `signed` gives it.
        at: UTC, ISO 8601; the beginning of its name.
        kind: end of its name.
    """
    name = f"{at.replace(':', '')}-{secrets.token_hex(4)}{kind}.json"
    workspace.place.write(f"{ERASURES}/{name}", (json.dumps(receipt, indent=2) + "\n").encode())


def check_receipt(workspace: Workspace, receipt: dict[str, Any]) -> bool:
    """Whether a receipt was written by this workspace and is unchanged."""
    values = {name: value for name, value in receipt.items() if name != "signature"}
    return hmac.compare_digest(str(receipt.get("signature")), signed(workspace_key(workspace), values)["signature"])
