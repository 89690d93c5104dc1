"""For all tests: what Hypothesis may expect of a machine that does other things as well."""

from hypothesis import HealthCheck, settings

# Speed is measured in benchmarks, never asserted in a test.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")
