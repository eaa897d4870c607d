"""The edge's side of the bridge: a pool of streams, the sessions on it, and discovery."""
