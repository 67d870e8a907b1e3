"""From a video file to clips, frames, embeddings and class probabilities."""
