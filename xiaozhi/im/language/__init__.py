"""The language of a device's talk, and the edge's own texts in it."""
