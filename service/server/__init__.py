"""The server as processes: workers, their supervisor, certificates, standby."""
