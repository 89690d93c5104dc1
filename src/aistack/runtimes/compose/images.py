"""The images: the Dockerfile of our own, what it is called, and how images come to this machine."""

from collections.abc import Mapping
from pathlib import Path

from aistack import __version__
from aistack.components import COMPONENTS
from aistack.components.base import OwnModule
from aistack.config.schema import Config
from aistack.runtimes import own
from aistack.runtimes.base import Progress, Report
from aistack.runtimes.compose.docker import Docker
from aistack.runtimes.programs import package_sources
from aistack.system import files
from aistack.system.run import check

BASE = "python:3.11.14-slim-bookworm"

_HEAD = f"""\
# Written by aistack: gateway, engine and exporter. Build it {{}}.
ARG BASE={BASE}

FROM ${{{{BASE}}}} AS build
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
# pip stays out of the environment that is kept.
RUN python -m venv /opt/pip && python -m venv --without-pip /opt/aistack
ENV INSTALL="/opt/pip/bin/pip --python /opt/aistack/bin/python install --no-cache-dir --disable-pip-version-check"
"""
# What we stand on comes first, so that a change of our own code builds in seconds.
_CHECKOUT = """\
WORKDIR /source
COPY pyproject.toml requirements.lock README.md ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], \\
    sep='\\n')" > needed && ${INSTALL} --requirement needed --constraint requirements.lock
COPY src src
RUN ${INSTALL} --no-deps .
"""
_PACKAGE = f"""\
RUN ${{INSTALL}} aistack=={__version__}
"""
_TAIL = """\

FROM ${{BASE}}
RUN apt-get update -q && apt-get install -y -q --no-install-recommends {packages} && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/aistack /opt/aistack
ENV PATH=/opt/aistack/bin:${{PATH}} PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
"""


def own_image() -> str:
    """The image with this very build of aistack."""
    return f"aistack:{__version__}-{own.revision()}"


def dockerfile(checkout: Path | None) -> str:
    """Builds our image: from a checkout, which is its context, or from the published package, with no context."""
    # Of all services, also those that this stack does without: the image is the same for every stack.
    ours = [service.program for component in COMPONENTS for service in component(Config())]
    packages = sorted({one.package for one in ours if isinstance(one, OwnModule) and one.package})
    tail = _TAIL.format(packages=" ".join(packages))
    place = "in a checkout of aistack" if checkout else "in any folder"
    return _HEAD.format(place) + (_CHECKOUT if checkout else _PACKAGE) + tail


def bring(docker: Docker, reference: str, recipe: Path, report: Report) -> None:
    """Make `reference` available: build it with the Dockerfile at `recipe` when it is our own, else pull it.

    Raises ProgramError.
    """

    def tell(line: str) -> None:
        report(Progress("images", "installing", line))

    if reference != own_image():
        tell(f"pulling {reference}")
        done = docker.run("pull", reference, on_line=tell)
        hint = "check the network, or name another in [images] of stack.toml; nothing was changed"
        check(done, f"pulling the image {reference}", hint)
        return
    checkout = own.checkout()
    files.write(recipe, dockerfile(checkout))
    tell(f"building {reference}")
    # The machine's own network, as a mirror of packages may be reached by nothing else.
    # An argument without a value is taken from the environment: a mirror's address may hold a password.
    mirrors = _mirrors()
    named = [part for name in mirrors for part in ("--build-arg", name)]
    done = docker.run("build", "--network", "host", "--tag", reference, "--file", str(recipe), *named,
                      str(checkout or recipe.parent), on_line=tell, env=mirrors)  # fmt: skip
    check(done, f"building the image {reference}", "read what it says above; `aistack up` tries again")


def remove_older(docker: Docker) -> None:
    """Remove what earlier builds of ours left; Docker keeps those that a container still stands on."""
    name, _, tag = own_image().partition(":")
    for line in docker.run("images", name, "--format", "{{.Tag}}").stdout.split():
        if line != tag:
            docker.run("rmi", f"{name}:{line}")


def _mirrors() -> Mapping[str, str]:
    """Where pip on this machine takes packages from, for pip in the build."""
    sources = package_sources().environment
    names = {"UV_DEFAULT_INDEX": "PIP_INDEX_URL", "UV_INDEX": "PIP_EXTRA_INDEX_URL"}
    return {
        theirs: sources[ours] for ours, theirs in names.items() if not sources.get(ours, "file:").startswith("file:")
    }
