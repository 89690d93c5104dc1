"""Diagnosis: can the processor run the engine at all?"""

from aistack.operations.diagnoses.base import Finding, Inputs


def diagnose(inputs: Inputs) -> tuple[Finding, ...]:
    """A problem when an x86 processor lacks an instruction set that the engine was built with.

    Such an engine ends with an illegal instruction, and says nothing.
    """
    cpu = inputs.host.cpu
    missing = [flag for flag in inputs.cpu_flags_needed if flag not in cpu.flags]
    if cpu.architecture == "x86_64" and missing:
        return (
            Finding(
                "problem",
                "processor",
                f"{cpu.model} lacks {', '.join(missing)}, which the built-in engine needs",
                "use another machine; in a virtual machine, pass the processor through "
                '(CPU type "host"); or run Ollama: engine.kind = "ollama"',
            ),
        )
    return (Finding("ok", "processor", f"{cpu.model}, {cpu.cores} cores to use"),)
