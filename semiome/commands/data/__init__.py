"""Commands that work on a workspace's data."""
