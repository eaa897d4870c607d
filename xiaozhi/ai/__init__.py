"""The AI service: sessions, turns, speech and memory."""
