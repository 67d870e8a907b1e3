"""The same knowledge over gRPC."""
