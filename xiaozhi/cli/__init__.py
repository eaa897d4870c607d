"""Command lines: both services under one supervisor, device tokens, agents."""
