"""Tests of the HTTP kit."""
