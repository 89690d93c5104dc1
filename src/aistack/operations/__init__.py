"""What each verb of the command line does, one a file; `cli` only parses and prints."""
