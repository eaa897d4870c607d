"""Playout: speech to a device at playback speed, and its sound in the microphone."""
