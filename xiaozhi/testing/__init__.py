"""What tests share: contract suites for interfaces, and the doubles they run with."""
