"""Between protobuf messages and records, both ways."""
