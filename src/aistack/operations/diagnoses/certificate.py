"""Diagnosis: does the server certificate still last?"""

from aistack.certificates import RENEWAL, expires
from aistack.errors import UserError
from aistack.operations.diagnoses.base import Finding, Inputs

_CURE = "run `aistack up`, which makes a new one"
_SITES_OWN = "it is the site's own (proxy.certificate): put a valid one there, then run `aistack up`"


def diagnose(inputs: Inputs) -> tuple[Finding, ...]:
    """Missing, damaged or ended is a problem, fewer than 30 days left a warning."""
    path, cure = inputs.certificate, _SITES_OWN if inputs.site_key else _CURE
    if path is None:
        return ()
    if not path.exists():
        return (Finding("problem", "certificate", f"there is no certificate at {path}", cure),)
    try:
        end = expires(path)
    except UserError as error:
        return (Finding("problem", "certificate", error.message, cure),)
    left = end - inputs.now
    if left.total_seconds() <= 0:
        return (Finding("problem", "certificate", f"{path} ended on {end:%Y-%m-%d %H:%M} UTC", cure),)
    if left < RENEWAL:
        return (Finding("warning", "certificate", f"{path} ends in {left.days} days, on {end:%Y-%m-%d}", cure),)
    return (Finding("ok", "certificate", f"valid until {end:%Y-%m-%d}, {left.days} days"),)
