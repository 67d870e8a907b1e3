"""The commands: each reads its options, calls one package, prints."""
