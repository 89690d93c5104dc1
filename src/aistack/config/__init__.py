"""What the site wants: `stack.toml` (schema, loading, reference), where it lies, and its secrets."""
