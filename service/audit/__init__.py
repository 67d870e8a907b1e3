"""The audit log: who read or was refused what."""
