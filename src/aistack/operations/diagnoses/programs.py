"""Diagnosis: are the programs that the stack runs there, and new enough?"""

import re

from aistack.errors import ProgramError
from aistack.operations.diagnoses.base import Finding, Inputs, WantedProgram
from aistack.runtimes.programs import find


def diagnose(inputs: Inputs) -> tuple[Finding, ...]:
    """A finding for each program: missing, failing, too old, or fine."""
    return tuple(_examine(inputs, program) for program in inputs.programs)


def parse_version(output: str) -> str:
    """The first `1.2` or `1.2.3` in what a program says of itself, or "" when there is none."""
    found = re.search(r"(?<![\w.])v?(\d+(?:\.\d+)+)", output)
    return found.group(1) if found else ""


def is_older(version: str, minimum: str) -> bool:
    """Whether `version` comes before `minimum`, number by number: 1.9 is older than 1.10, 1.2 is 1.2.0."""

    def numbers(text: str) -> list[int]:
        parts = [int(part) for part in re.findall(r"\d+", text)]
        while parts and parts[-1] == 0:
            parts.pop()
        return parts

    return numbers(version) < numbers(minimum)


def _examine(inputs: Inputs, program: WantedProgram) -> Finding:
    path = find(program.executable)
    if path is None:
        return Finding("problem", "programs", f"{program.name} is not installed", program.cure)
    try:
        done = inputs.run((path, *program.version_arguments), timeout_s=20)
    except ProgramError as error:
        return Finding("problem", "programs", f"{program.name} does not run: {error.message}", program.cure)
    said = f"{done.stdout}\n{done.stderr}".strip()
    version = parse_version(said)
    if done.status != 0:
        reason = (said.splitlines() or ["no word"])[-1]
        message = f"{program.name} does not run (exit status {done.status}): {reason}"
        return Finding("problem", "programs", message, program.cure)
    if program.minimum and not version:
        message = f"{program.name} ({path}) does not tell its version; {program.minimum} or newer is needed"
        return Finding("warning", "programs", message, program.cure)
    if program.minimum and is_older(version, program.minimum):
        message = f"{program.name} is {version} ({path}); {program.minimum} or newer is needed"
        return Finding("problem", "programs", message, program.cure)
    return Finding("ok", "programs", f"{program.name} {version}".strip())
