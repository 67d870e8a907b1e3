"""What a server answers from: a snapshot, a head, and what follows from them."""
