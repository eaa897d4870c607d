"""The WebSocket transport: Autobahn, framing, close codes, send queue."""
