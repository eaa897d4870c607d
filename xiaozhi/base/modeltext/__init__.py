"""Filters for the text of language models: reasoning, leaked markers and tool calls."""
