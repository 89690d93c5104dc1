"""Diagnosis: do the services answer, and does somebody look after them?"""

from aistack.operations.diagnoses.base import Finding, Inputs


def diagnose(inputs: Inputs) -> tuple[Finding, ...]:
    """A problem for each service with one; one line when there is none; a warning when the stack is down."""
    found = tuple(
        Finding(
            "problem",
            "services",
            f"{service}: {problem}",
            f"`aistack up`; if it stays so, see `aistack logs {service}` and `aistack restart {service}`",
        )
        for service, problem in inputs.services.items()
        if problem
    )
    if not inputs.services:
        return (Finding("warning", "services", "nothing of the stack runs", "start it: `aistack up`"),)
    if found:
        return found
    return (Finding("ok", "services", f"all {len(inputs.services)} services answer"),)
