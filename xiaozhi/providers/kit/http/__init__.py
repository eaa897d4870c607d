"""The HTTP client of the provider kit: persistent connections, streamed answers, limits, errors."""
