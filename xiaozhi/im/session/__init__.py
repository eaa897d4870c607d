"""The session side of the edge: a device's link, delivery, interruption and timeouts."""
