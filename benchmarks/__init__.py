"""What this program costs and how fast it is: ``python -m benchmarks --help``.

Every benchmark runs the real services as processes on the loopback interface and
measures, in turns with them, a *floor*: a bare Autobahn server that does as little
as can be done with the same frames from the same load generator. Figures of one
machine say little to another; ratios do.
"""
