"""Memory: the dialogue, and the part of it that a model receives again."""
