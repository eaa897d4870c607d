"""Tests of whole conversations: edge and AI service in one process on virtual time."""
