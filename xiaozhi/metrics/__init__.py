"""Metrics of a running process, for Prometheus.

A component counts in plain numbers (``instruments``), which cost almost nothing. They become
Prometheus text only at a scrape (``families``, ``registry``). Nothing is global: each service
has its own registry. :mod:`xiaozhi.web.pages` serves it.

===============  ============================================================
``instruments``  histograms and tallies by label
``families``     names, labels and help texts
``sources``      interfaces of sources that both services have
``process``      metrics of any process, and the reactor's lag
``registry``     all metrics of a service, and their text
``settings``     configuration
===============  ============================================================
"""
