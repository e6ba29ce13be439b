"""The tests: run them with trial.

PLIVOTX_HYPOTHESIS chooses how many examples a property is tried with: `fast` (the default; the whole suite takes
seconds, the same examples each time), `ci` (thousands, the same each time) or `big` (many thousands, others each time).
"""

import os

from hypothesis import HealthCheck, settings

# no deadline: a test that a busy machine slows down has not failed
_COMMON = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fast", _COMMON, max_examples=60, derandomize=True)
settings.register_profile("ci", _COMMON, max_examples=3_000, derandomize=True)
settings.register_profile("big", _COMMON, max_examples=50_000, print_blob=True)
settings.load_profile(os.environ.get("PLIVOTX_HYPOTHESIS", "fast"))
