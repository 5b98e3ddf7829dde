"""Pictures for the tracker, as PNG files, by matplotlib's object interface (no global figure, no display)."""
