"""The front door: the `semiome` command and the demo."""
