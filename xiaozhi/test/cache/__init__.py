"""Tests of presence and inboxes."""
