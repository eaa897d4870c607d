"""The AI service: sessions, turns and everything that answers a device."""
