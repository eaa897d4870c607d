"""Delivery of one session's messages in both directions, shared by both services."""
