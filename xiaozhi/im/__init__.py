"""The edge: everything about a device's connection."""
