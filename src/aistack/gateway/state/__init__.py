"""What outlives the gateway: keys and usage, in SQLite or PostgreSQL."""
