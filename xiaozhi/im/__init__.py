"""The edge: devices' connections, sessions and the session log."""
