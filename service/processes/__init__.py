"""Processes that a server starts, and what it does between calls."""
