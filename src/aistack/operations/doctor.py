"""`aistack doctor`: runs every diagnosis, whatever happens to the others, and tells what was found."""

from aistack.errors import UserError
from aistack.operations.diagnoses import DIAGNOSES
from aistack.operations.diagnoses.base import Diagnosis, Finding, Inputs

_ORDER = ("problem", "warning", "ok")


def diagnose(inputs: Inputs, diagnoses: tuple[tuple[str, Diagnosis], ...] = DIAGNOSES) -> tuple[Finding, ...]:
    """What every diagnosis finds, problems first. One that fails becomes a finding itself."""
    found = [finding for name, diagnosis in diagnoses for finding in _examine(name, diagnosis, inputs)]
    return tuple(sorted(found, key=lambda finding: _ORDER.index(finding.severity)))


def has_problem(findings: tuple[Finding, ...]) -> bool:
    """Whether the command should exit with 1."""
    return any(finding.severity == "problem" for finding in findings)


def report(findings: tuple[Finding, ...]) -> str:
    """The findings as text: a line each, the cure below it, a count at the end."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.severity:<8} {finding.check:<12} {finding.message}")
        if finding.cure:
            lines.append(f"{'':<21} cure: {finding.cure}")
    counts = {severity: sum(one.severity == severity for one in findings) for severity in _ORDER}
    lines.append(f"\n{_count(counts['problem'], 'problem')}, {_count(counts['warning'], 'warning')}")
    return "\n".join(lines)


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def _examine(name: str, diagnosis: Diagnosis, inputs: Inputs) -> tuple[Finding, ...]:
    try:
        return diagnosis(inputs)
    except UserError as error:
        return (Finding("problem", name, error.message, error.hint),)
    except PermissionError as error:
        message = f"may not look at {error.filename}: {error.strerror}"
        return (Finding("problem", name, message, "run doctor as the user who owns the stack"),)
    except Exception as error:  # a doctor who faints helps nobody: the other checks go on
        message = f"this check itself failed: {type(error).__name__}: {error}"
        return (Finding("problem", name, message, "the other checks hold; please report this as a bug"),)
