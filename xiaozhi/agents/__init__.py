"""Agents: an agent's value, settings, prompt and roles, and the assignment of devices."""
