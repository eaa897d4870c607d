"""Listening: from audio packets to utterances, and their ends."""
