"""The language of a device's conversation, and the edge's own texts in it."""
