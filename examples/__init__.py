"""Programs to be optimized, each in a folder of its own."""
