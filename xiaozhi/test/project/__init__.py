"""Tests of the project itself: source tree, configuration files."""
