"""Figures about a running process, for Prometheus.

Whoever has something to count does so in plain numbers (``figures``), which cost
next to nothing; they are made into Prometheus text only when somebody asks
(``families``, ``page``). Nothing is global: each service has a registry of its own.

==============  =============================================================
``figures``     what counts: histograms and tallies by label
``families``    how figures are named and described
``process``     what there is to know about any process, and the reactor's lag
``page``        ``/metrics`` over HTTP, here or on a port of its own
``settings``    what can be configured
==============  =============================================================
"""
