"""Runtimes: each translates Services into its own terms (processes, units, containers)."""
