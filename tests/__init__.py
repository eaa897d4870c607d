"""End to end and live tests: real processes, real servers."""
