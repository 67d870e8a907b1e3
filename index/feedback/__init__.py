"""What people say of stored videos."""
