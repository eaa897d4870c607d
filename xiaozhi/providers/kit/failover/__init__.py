"""Failover groups over several providers, each behind a circuit breaker."""
