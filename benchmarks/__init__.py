"""What the README's figures come from, and drills too long for the test suite: `python -m benchmarks.NAME`."""
