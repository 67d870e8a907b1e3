"""What is left of an erased patient in files, and how it is taken out."""
