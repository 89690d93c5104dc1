"""What this machine is: facts read below a root path, and what fits on it."""
