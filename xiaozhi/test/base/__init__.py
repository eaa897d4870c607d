"""Tests of base values and filters."""
