"""The LLM loop: a model's input, its reply and its tool calls."""
