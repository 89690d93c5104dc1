"""Diagnosis: does the server certificate still last?"""

from aistack.certificates import RENEWAL, expires
from aistack.errors import UserError
from aistack.operations.diagnoses.base import Finding, Inputs

_CURE = "run `aistack up`, which makes a new one; a certificate of your own (proxy.certificate) is yours to renew"


def diagnose(inputs: Inputs) -> tuple[Finding, ...]:
    """Missing, damaged or ended is a problem, fewer than 30 days left a warning."""
    path = inputs.certificate
    if path is None:
        return ()
    if not path.exists():
        return (Finding("problem", "certificate", f"there is no certificate at {path}", "run `aistack up`"),)
    try:
        end = expires(path)
    except UserError as error:
        return (Finding("problem", "certificate", error.message, error.hint),)
    left = end - inputs.now
    if left.total_seconds() <= 0:
        return (Finding("problem", "certificate", f"{path} ended on {end:%Y-%m-%d %H:%M} UTC", _CURE),)
    if left < RENEWAL:
        return (Finding("warning", "certificate", f"{path} ends in {left.days} days, on {end:%Y-%m-%d}", _CURE),)
    return (Finding("ok", "certificate", f"valid until {end:%Y-%m-%d}, {left.days} days"),)
