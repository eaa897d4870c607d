"""Metrics of a running process, for Prometheus.

Code counts in plain numbers (``instruments``), which cost next to nothing; a scrape
turns them into Prometheus text (``families``, ``page``). Nothing is global: each
service has a registry of its own.

==============  =============================================================
``instruments`` histograms and tallies by label
``families``    names and descriptions of metrics
``process``     metrics of any process, and the reactor's lag
``page``        ``/metrics`` over HTTP, here or on a port of its own
``settings``    the settings of all this
==============  =============================================================
"""
