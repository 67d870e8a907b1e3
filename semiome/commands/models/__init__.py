"""Commands that make and judge weights."""
