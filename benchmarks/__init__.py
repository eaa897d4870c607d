"""Benchmarks of cost and latency: ``python -m benchmarks --help``.

Every benchmark runs the real services as processes on the loopback interface and
measures, in turns with them, a *floor*: a bare Autobahn server that does the least
possible with the same frames from the same load generator. Compare ratios between
machines, not absolute values.
"""
