"""Metrics of a running process, for Prometheus.

``instruments`` histograms and tallies by label
``families``    names and descriptions of metrics
``process``     metrics of any process, and the reactor's lag
``page``        ``/metrics`` over HTTP, here or on a port of its own
``settings``    the settings of all this
==============  =============================================================
=======
A component counts in plain numbers (``instruments``), which cost next to nothing; they become
Prometheus text only when a scraper asks (``families``, ``registry``). Nothing is global: each
service has a registry of its own. :mod:`xiaozhi.web.pages` serves it.

===============  ============================================================
``instruments``  histograms and tallies by label
``families``     names, labels and help texts
``sources``      interfaces of what both services' collectors read
``process``      metrics of any process, and the reactor's lag
``registry``     all metrics of a service, and their text
``settings``     configuration
===============  ============================================================
"""
