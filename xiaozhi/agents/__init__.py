"""Agents: who a device talks to. The agent's value, its settings, prompt and roles."""
