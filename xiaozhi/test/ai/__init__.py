"""Tests of the AI service."""
