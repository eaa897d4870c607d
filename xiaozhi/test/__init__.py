"""Unit tests; ``xiaozhi.testing`` has their shared code.

Property tests try the same examples in every run, so that a run tests the change only.
``HYPOTHESIS_PROFILE=explore trial xiaozhi`` looks for new ones.
"""

import os

from hypothesis import HealthCheck, settings

# Results must not depend on the speed of the machine.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", _PATIENT)
settings.register_profile("xiaozhi", _PATIENT, derandomize=True, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "xiaozhi"))
