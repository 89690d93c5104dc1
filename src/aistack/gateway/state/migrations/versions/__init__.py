"""One change of the tables a file, in their order."""
