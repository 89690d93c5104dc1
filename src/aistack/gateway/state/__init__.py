"""What outlives the gateway: keys, usage and drained nodes, in SQLite or PostgreSQL."""
