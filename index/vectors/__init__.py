"""Indexes of vectors: exact and approximate search, generations, and which one serves."""
