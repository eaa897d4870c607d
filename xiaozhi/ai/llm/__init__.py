"""The LLM loop: a model's reply, its tool calls, and the context it is given."""
