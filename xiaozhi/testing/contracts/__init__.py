"""Contract suites: what every implementation of an interface must pass."""
