"""`aistack doctor`: gathers what the diagnoses look at, and asks them."""

import sys
from datetime import UTC, datetime
from pathlib import Path

from aistack.components.base import DebianProgram, InstalledProgram, OwnModule, PythonProgram
from aistack.hardware.fit import stack_memory_bytes
from aistack.models.names import canonical
from aistack.operations.diagnoses.base import Finding, Inputs, WantedProgram, WantedRoom
from aistack.operations.doctor import diagnose
from aistack.operations.stack import Stack
from aistack.operations.status import status
from aistack.system.run import run

_GIB = 1 << 30


def examine(stack: Stack) -> tuple[Finding, ...]:
    """Everything that is wrong, or will be soon, with the cure for each."""
    paths, proxy = stack.paths, stack.config.proxy
    seen = {item.service: item for item in status(stack)}
    up = any(item.state != "missing" for item in seen.values())
    return diagnose(
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
            folders=tuple(_rooms(stack)),
            memory_needed_bytes=_memory_needed_bytes(stack),
            certificate=stack.certificate if up or proxy.certificate else None,
            site_key=Path(proxy.certificate_key) if proxy.certificate_key else None,
            secrets=(paths.secrets, *sorted(paths.tls.glob("*.key"))),
            services={name: item.problem for name, item in seen.items()} if up else {},
            damaged_models={one.path: one.reason for one in (() if stack.ollama else stack.models.damaged())},
            cpu_flags_needed=("avx2",) if stack.config.engine.kind == "llamacpp" else (),
            clock_witnesses=(paths.stack_toml,),
        )
    )


def _rooms(stack: Stack) -> list[WantedRoom]:
    rooms = [
        WantedRoom(stack.paths.data, 2 * _GIB, "chats, uploads, vectors and metrics"),
        WantedRoom(stack.runtime.models, 2 * _GIB, "models"),
    ]
    environments = [(name, program) for name, program in stack.programs if isinstance(program, PythonProgram)]
    if stack.runtime.missing(environments):
        folder = Path(stack.config.paths.programs or stack.paths.programs)
        rooms.append(WantedRoom(folder, 3 * _GIB, "programs to be installed"))
    return rooms


def _memory_needed_bytes(stack: Stack) -> int:
    engine, chat = stack.config.engine, canonical(stack.config.models.chat)
    return stack_memory_bytes(
        stack.plan.host,
        chat,
        file_bytes=sum(model.size for model in stack.models.list() if model.name == chat),
        context_length=engine.context_length,
        slots=engine.num_parallel,
        engine_uses_gpu=engine.kind == "ollama",
    )


def _programs(stack: Stack) -> list[WantedProgram]:
    found = []
    for _, program in stack.programs:
        match program:
            case DebianProgram(package, executable, minimum):
                version = "-v" if executable == "nginx" else "--version"
                found.append(
                    WantedProgram(package, executable, minimum, (version,),
                                  f"aistack up, or apt-get install {package}")
                )  # fmt: skip
            case OwnModule(_, package, library) if library:
                load = ("-c", "import ctypes, sys; ctypes.CDLL(sys.argv[1])", library)
                cure = f"aistack up, or apt-get install {package}"
                found.append(WantedProgram(package, sys.executable, "", load, cure))
            case InstalledProgram(executable, hint):
                found.append(WantedProgram(executable, executable, "0.17.1", ("--version",), hint))
    return found
