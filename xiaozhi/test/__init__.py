"""Unit tests; ``xiaozhi.testing`` has what they share."""

from hypothesis import HealthCheck, settings

# What a property test finds must not depend on how fast the machine is just then.
settings.register_profile("xiaozhi", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("xiaozhi")
