"""The session side of the edge: a device's link, its delivery, pacing and timeouts."""
