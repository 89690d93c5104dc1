"""The images of the stack under their upstream names, made on the spot from the real programs.

nginx, Prometheus and the exporters come from Debian, Open WebUI and Chroma from PyPI in the very environments of
the process runtime. So they are what upstream's images are to the runtime: the same programs, found in the same way.
"""

import base64
import hashlib
from pathlib import Path

from engine import Engine
from images import BASE, base_image, release_image

from aistack.components import COMPONENTS
from aistack.components.base import PythonProgram, Service
from aistack.config.schema import Config
from aistack.runtimes.compose.images import BASE as PYTHON
from aistack.runtimes.programs import Installer, environment_folder

_KEY = "aistack-test"
_DEBIAN = "DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends"
_PYTHON = f"RUN apt-get update -q && {_DEBIAN} python3 python3-venv curl && ln -s python3 /usr/bin/python"


def stack_images(engine: Engine, programs: Path) -> None:
    """Make every image that a stack with the built-in engine needs, but our own; `programs` keeps environments."""
    base_image(engine)
    services = {service.name: service for component in COMPONENTS for service in component(Config())}
    _build(engine, PYTHON, f"FROM {BASE}\n{_PYTHON}\n")
    # Debian 12's nginx cannot ask a name server anew for the addresses of an upstream.
    release_image(engine, _reference(services["nginx"]), "sid", "nginx", "curl")
    for name, package, here, there in (
        ("prometheus", "prometheus", "prometheus", "/bin/prometheus"),
        ("node-exporter", "prometheus-node-exporter", "prometheus-node-exporter", "/bin/node_exporter"),
        ("nginx-exporter", "prometheus-nginx-exporter", "prometheus-nginx-exporter",
         "/usr/bin/nginx-prometheus-exporter"),
    ):  # fmt: skip
        link = f"ln -sf /usr/bin/{here} {there}" if Path(there).name != here else "true"
        recipe = f"FROM {BASE}\nRUN apt-get update -q && {_DEBIAN} {package} wget && {link}\n"
        _build(engine, _reference(services[name]), recipe)
    _build_python(engine, services["chat"], programs, "ENV FRONTEND_BUILD_DIR={packages}/open_webui/frontend\n")
    _build_python(engine, services["chromadb"], programs, "")


def _reference(service: Service) -> str:
    assert service.image is not None
    return service.image.reference("")


def _build_python(engine: Engine, service: Service, programs: Path, more: str) -> None:
    """The packages of the process runtime's environment in one of the image's own Python, which is the same minor."""
    program = service.program
    assert isinstance(program, PythonProgram)
    Installer(programs, lambda _: True).install([(service.name, program)], lambda _: None)
    (packages,) = environment_folder(programs, program).glob("lib/python*/site-packages")
    inside = f"/opt/program/lib/{packages.parent.name}/site-packages"
    launcher = environment_folder(programs, program) / "bin" / program.executable
    script = "\n".join(("#!/opt/program/bin/python", *launcher.read_text().splitlines()[1:], ""))
    encoded = base64.b64encode(script.encode()).decode()
    # What only some patch levels of Python need.
    further = " ".join(f'"{line}"' for line in program.requirements if "python_full_version" in line)
    recipe = (
        f"FROM {PYTHON}\nRUN python -m venv /opt/program\nCOPY . {inside}\n"
        f"RUN /opt/program/bin/pip install -q --no-deps {further or 'pip'}\n"
        f"RUN echo {encoded} | base64 -d > /opt/program/bin/{program.executable} "
        f"&& chmod 755 /opt/program/bin/{program.executable}\n"
        f"ENV PATH=/opt/program/bin:$PATH\n{more.format(packages=inside)}"
    )
    _build(engine, _reference(service), recipe, packages)


def _build(engine: Engine, tag: str, recipe: str, context: Path | None = None) -> None:
    """Unless it is there as `recipe` has it, from `context`, whose path tells what it holds."""
    key = hashlib.sha256(f"{recipe}{context}".encode()).hexdigest()
    if engine.has_image(tag, f"{_KEY}={key}"):
        return
    folder = engine.folder / "recipes" / key[:12]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Dockerfile").write_text(f"{recipe}LABEL {_KEY}={key}\n")
    engine.build(tag, context or folder, "--file", str(folder / "Dockerfile"))
