"""The encoder itself: TimeSformer, its weights, and frames to embeddings."""
