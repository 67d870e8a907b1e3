"""What travels on the wire: the `semiome.v1` API and its generated modules."""
