"""Network clients of a device: configuration over HTTP and the WebSocket connection."""
