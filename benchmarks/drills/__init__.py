"""Long runs of the faults that the tests try in short."""
