"""Ingress: the edge's one port, admission, the table of devices, HTTP pages."""
