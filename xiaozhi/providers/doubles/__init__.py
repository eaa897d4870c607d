"""Doubles: scripted providers for tests and dialogues."""
