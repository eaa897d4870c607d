"""The process: services, configuration, clocks, threads, logs, garbage collection."""
