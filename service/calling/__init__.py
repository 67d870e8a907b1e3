"""What clients share: requests, connections, retries."""
