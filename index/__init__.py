"""Where embeddings live and who is near: the LanceDB store, FAISS generations, search."""
