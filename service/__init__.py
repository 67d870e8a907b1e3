"""The same search and classification over gRPC, and the review page."""
