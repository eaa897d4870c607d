"""From what a model writes to a device's packets."""
