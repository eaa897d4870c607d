"""The firmware's behaviour: state machine, main loop, MCP server, tools and camera."""
