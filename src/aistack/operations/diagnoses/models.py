"""Diagnosis: can every file in the models folder be served?"""

from aistack.operations.diagnoses.base import Finding, Inputs


def diagnose(inputs: Inputs) -> tuple[Finding, ...]:
    """A problem for each file that is not whole; one line when there is none."""
    cure = "fetch it again with `aistack models pull`, or remove it with `aistack models rm`"
    found = tuple(
        Finding("problem", "models", f"{path} cannot be served: {reason}", cure)
        for path, reason in inputs.damaged_models.items()
    )
    return found or (Finding("ok", "models", "no file in the models folder is damaged"),)
