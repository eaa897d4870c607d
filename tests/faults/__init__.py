"""Fault injection against real processes: talking devices, and a ledger of every message."""
