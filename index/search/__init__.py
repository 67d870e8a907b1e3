"""Search: one snapshot of what is stored, and which of it is most similar to a query."""
