"""Timelines: the times of a turn's steps, and the counters derived from them."""
