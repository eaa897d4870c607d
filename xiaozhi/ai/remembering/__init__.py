"""What was said, and what of it a model is told."""
