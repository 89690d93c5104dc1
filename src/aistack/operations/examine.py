"""`aistack doctor`: gathers what the diagnoses look at, and asks them."""

import sys
from datetime import UTC, datetime

from aistack.components.base import DebianProgram, InstalledProgram, OwnModule
from aistack.operations.diagnoses.base import Finding, Inputs, WantedProgram, WantedRoom
from aistack.operations.doctor import examine
from aistack.operations.stack import Stack
from aistack.operations.status import status
from aistack.system.run import run

_GIB = 1 << 30


def diagnose(stack: Stack) -> tuple[Finding, ...]:
    """Everything that is wrong, or will be soon, with the cure for each."""
    paths = stack.paths
    seen = {item.service: item for item in status(stack)}
    up = any(item.state != "missing" for item in seen.values())
    return examine(
        Inputs(
            host=stack.plan.host,
            run=run,
            now=datetime.now(UTC),
            ports={
                service.name if len(service.ports) == 1 else f"{service.name} {port.name}": (
                    port.address,
                    port.number,
                )
                for service in stack.plan.services
                for port in stack.runtime.ports(service)
            },
            own_pids=stack.runtime.pids(),
            programs=tuple(_programs(stack)),
            folders=(
                WantedRoom(paths.data, 2 * _GIB, "chats, uploads, vectors and metrics"),
                WantedRoom(stack.runtime.models, 2 * _GIB, "models"),
            ),
            memory_needed_bytes=4 * _GIB,
            certificate=stack.certificate if stack.certificate.exists() else None,
            secrets=(paths.secrets, stack.certificate_key),
            services={name: item.problem for name, item in seen.items()} if up else {},
            cpu_flags_needed=("avx2",) if stack.config.engine.kind == "llamacpp" else (),
            clock_witnesses=(paths.stack_toml,),
        )
    )


def _programs(stack: Stack) -> list[WantedProgram]:
    found = []
    for name, program in stack.programs:
        match program:
            case DebianProgram(package, executable, minimum):
                version = "-v" if executable == "nginx" else "--version"
                found.append(
                    WantedProgram(name, executable, minimum, (version,),
                                  f"aistack up, or apt-get install {package}")
                )  # fmt: skip
            case OwnModule(_, package, library) if library:
                load = ("-c", "import ctypes, sys; ctypes.CDLL(sys.argv[1])", library)
                cure = f"aistack up, or apt-get install {package}"
                found.append(WantedProgram(f"{name} with {package}", sys.executable, "", load, cure))
            case InstalledProgram(executable, hint):
                found.append(WantedProgram(name, executable, "0.17.1", ("--version",), hint))
    return found
