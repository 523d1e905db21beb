"""Measurements: each module is one command, `python -m benchmarks.NAME`; `python -m benchmarks` lists them."""
