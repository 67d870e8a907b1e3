"""The servicers, one for each service of the API."""
