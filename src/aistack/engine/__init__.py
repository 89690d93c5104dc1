"""The embedded engine: one front on a port, one llama.cpp server process behind it for each loaded model."""
