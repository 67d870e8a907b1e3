"""Where bytes lie: whole files, locks, folders, object storage."""
