"""The review page: HTTP for browsers in front of the gRPC service."""
