"""Providers that need no key and no internet service."""
