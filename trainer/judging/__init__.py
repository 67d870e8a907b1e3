"""How good embeddings and heads are, on patients they have not seen."""
