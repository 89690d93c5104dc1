"""The systemd runtime: a hardened unit and a user of its own for each service, below `ai-stack.target`."""
