"""Faults, injected many times: `python -m benchmarks.drills.NAME`."""
