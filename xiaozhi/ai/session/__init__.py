"""Sessions: their states, the running turn, interruption, idle time and scheduling."""
