"""Names of metadata that both ends know."""

from __future__ import annotations

DETAILS = "grpc-status-details-bin"
"""Where gRPC's own libraries look for a status' details."""
REQUEST_ID = "semiome-request-id"
"""What logs, errors and the audit log call a call."""
SEEN = "semiome-seen"
"""Metadata by which a caller names generation and table version of their last answer: nothing older may follow."""
TAKEN = "semiome-taken"
"""Before the answer to an upload: its film may come."""
BEHALF = "semiome-behalf"
"""Metadata by which the review page names the address of its browser, which the audit log notes as said."""
