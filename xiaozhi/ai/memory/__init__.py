"""Memory: what was said, and which part of it a model is told again."""
