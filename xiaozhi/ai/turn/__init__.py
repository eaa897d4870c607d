"""Turns: answers to a person, one at a time, interrupted or announced."""
