"""The encode job: from a manifest to stored embeddings, on one machine or on a cluster."""
