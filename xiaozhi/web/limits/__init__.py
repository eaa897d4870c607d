"""Limits of clients: by address, by rate, by origin, and bytes no request head may hold."""
