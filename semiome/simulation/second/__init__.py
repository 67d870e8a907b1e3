"""A second simulator that shares nothing with the first but the list of signs, to see what carries over."""
