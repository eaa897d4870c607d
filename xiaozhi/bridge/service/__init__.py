"""The AI service's side of the bridge: streams from edges, their sessions and quotas."""
