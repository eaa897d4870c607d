"""gRPC as the carrier of the bridge's streams, on an asyncio thread beside the reactor."""
