"""Timelines: when each step of a turn happened, and the counters made of it."""
