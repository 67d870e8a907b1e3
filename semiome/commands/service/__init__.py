"""Commands that serve, and that ask a server."""
