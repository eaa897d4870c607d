"""Turns: one question of a person and everything that answers it."""
