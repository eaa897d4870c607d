"""Limits of clients: by address, by rate, by origin, and the bytes of a request head."""
