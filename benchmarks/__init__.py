"""Measurements, side by side in one run; `python -m benchmarks` prints them and writes docs/benchmarks.md."""
