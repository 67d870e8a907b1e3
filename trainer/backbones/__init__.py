"""The models the paper is compared with."""
