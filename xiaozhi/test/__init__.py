"""Unit tests; ``xiaozhi.testing`` has what they share.

Property tests try the same examples every time, so that a run tells about the change
that was made. ``HYPOTHESIS_PROFILE=explore trial xiaozhi`` looks for new ones.
"""

import os

from hypothesis import HealthCheck, settings

# What is found must not depend on how fast the machine is just then.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", _PATIENT)
settings.register_profile("xiaozhi", _PATIENT, derandomize=True, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "xiaozhi"))
