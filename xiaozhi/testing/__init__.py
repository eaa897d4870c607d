"""Shared test code: contract suites for interfaces, and the doubles they run with."""
