"""The care of stored data: erasure, removal, backup, and the check of a whole workspace."""
