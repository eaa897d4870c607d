"""A device's own tools: MCP and IoT things."""
