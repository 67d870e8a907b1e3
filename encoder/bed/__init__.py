"""Which part of the picture is embedded: the bed, found or given."""
