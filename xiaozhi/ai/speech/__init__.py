"""Speech output: from a model's text to sentences and a device's audio packets."""
