"""Providers for any vendor that speaks the OpenAI HTTP dialect."""
