"""Faults, against real processes: devices in conversation, and a ledger of every message."""
