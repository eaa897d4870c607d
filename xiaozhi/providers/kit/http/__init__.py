"""The HTTP client of the provider kit: kept connections, streamed answers, limits, errors."""
