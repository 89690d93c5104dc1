"""Diagnosis: do the services answer?"""

from aistack.operations.diagnoses.base import Finding, Inputs


def diagnose(inputs: Inputs) -> tuple[Finding, ...]:
    """A problem for each service that does not; one line when all do; none when the stack is down."""
    silent = tuple(
        Finding(
            "problem",
            "services",
            f"{service} does not answer: {reason}",
            f"see `aistack logs {service}`, then `aistack restart {service}`",
        )
        for service, reason in inputs.services.items()
        if reason is not None
    )
    if silent or not inputs.services:
        return silent
    return (Finding("ok", "services", f"all {len(inputs.services)} services answer"),)
