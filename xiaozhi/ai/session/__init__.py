"""Sessions: states, conversation, idle time, agents and scheduling."""
