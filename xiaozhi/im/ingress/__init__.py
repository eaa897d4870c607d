"""Ingress: the edge's port, admission, the table of devices, HTTP pages."""
