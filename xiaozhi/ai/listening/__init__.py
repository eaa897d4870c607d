"""Listening: from audio packets to an utterance and the moment it ends."""
