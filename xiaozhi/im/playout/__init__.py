"""Playout: speech to a device at its own pace, and what its speaker feeds back."""
