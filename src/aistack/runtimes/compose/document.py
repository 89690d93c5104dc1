"""RenderedServices -> compose.yaml, as data and as text for people. Pure."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from aistack.render import RenderedService
from aistack.runtimes.compose.confines import (
    SECRETS,
    Definition,
    Ground,
    confined,
    frame,
    health_address,
    networks,
    states,
)
from aistack.runtimes.compose.placement import MODULE, ComposePlacement

NAME = "aistack.service"
HEALTH = "aistack.health"
RESTART_HASH = "aistack.restart-hash"
RELOAD_HASH = "aistack.reload-hash"

_HEAD = """\
# Written by aistack from stack.toml; the next `aistack up` replaces it.
# With your own tools: make the secrets named at the end; lay the certificate (certificate.pem) and its key
# (certificate_key.pem) into ./handed/nginx, the former into ./handed/exporter as well; let {user} own them and the
# folders under {state}; build our image with image/Dockerfile as {image}.
# Then, in this folder: docker compose up --detach
"""


def document(wanted: Sequence[RenderedService], place: ComposePlacement) -> Definition:
    """The whole of compose.yaml as data, with Compose's own `$` escaped."""
    ground = place.ground
    services: Definition = {}
    for rendered in wanted:
        if rendered.prepare:
            services[preparation(rendered.name)] = _preparation(rendered, ground)
        services[rendered.name] = _service(rendered, place, {other.name: other for other in wanted})
    secrets = dict.fromkeys(name for rendered in wanted for name in rendered.service.secret_names)
    escaped: Definition = _escaped(
        {
            "services": services,
            "networks": networks([rendered.service for rendered in wanted]),
            "secrets": {name: {"file": str(ground.paths.secrets / name)} for name in secrets},
        }
    )
    return escaped


def text(made: Mapping[str, Any], ground: Ground) -> str:
    """compose.yaml for people, of a document, or of one that was read from such a text.

    What all services have in common is said once, and a line is left between them.
    """
    services = made["services"]
    first, *others = services.values()
    common = {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
    blocks = [
        f"  {name}:\n    <<: *confined\n" + _yaml({key: service[key] for key in service if key not in common}, indent=4)
        for name, service in services.items()
    ]
    head = _HEAD.format(user="{}:{}".format(*ground.user), state=ground.paths.state, image=ground.image)
    rest = [_yaml({section: made[section]}) for section in ("networks", "secrets")]
    return "\n".join((head, "x-confined: &confined\n" + _yaml(common, indent=2), "services:", *blocks, *rest))


def read(written: str) -> Definition:
    """The document in the text of a compose.yaml."""
    found: Definition = yaml.safe_load(written)
    return found


def preparation(service: str) -> str:
    """The name in compose.yaml of what runs to its end before each start of `service`."""
    return f"{service}-prepare"


def _service(rendered: RenderedService, place: ComposePlacement, others: Mapping[str, RenderedService]) -> Definition:
    service, argv = rendered.service, _argv(rendered, place)
    made = frame(service, place.ground)
    image = made.pop("image")
    needed = {name: {"condition": _condition(others[name])} for name in service.after}
    if rendered.prepare:
        needed[preparation(service.name)] = {"condition": "service_completed_successfully"}
    return {
        "image": image,
        "entrypoint": _entrypoint(rendered) if rendered.secret_environment else [argv[0]],
        "command": list(argv if rendered.secret_environment else argv[1:]),
        "environment": {"HOME": "/tmp", "LANG": "C.UTF-8", **rendered.environment},  # noqa: S108 - the container's own
        **({"depends_on": needed} if needed else {}),
        **made,
        "labels": {
            NAME: service.name,
            HEALTH: health_address(service),
            RESTART_HASH: rendered.restart_hash,
            RELOAD_HASH: rendered.reload_hash,
        },
    }


def _preparation(rendered: RenderedService, ground: Ground) -> Definition:
    made = confined(ground.image, ground, 64)
    return {
        "image": made.pop("image"),
        "entrypoint": [MODULE[0]],
        "command": [*MODULE[1:], *rendered.prepare],
        **made,
        "network_mode": "none",
        "volumes": [*states(rendered.service, ground)],
    }


def _argv(rendered: RenderedService, place: ComposePlacement) -> tuple[str, ...]:
    starts = len(place.executable(rendered.service))
    skip = rendered.service.image.skip if rendered.service.image else 0
    return (*rendered.argv[:starts], *rendered.argv[starts + skip :])


def _condition(rendered: RenderedService) -> str:
    image = rendered.service.image
    return "service_healthy" if image is None or image.probe else "service_started"


def _entrypoint(rendered: RenderedService) -> list[str]:
    """A shell that reads secrets into the environment: in compose.yaml, or argv, they would be anybody's to read."""
    lines = ["set -e"]
    for name, value in rendered.secret_environment.items():
        content = f'"$(cat {SECRETS / value.name})"'
        parts = [shlex.quote(part) if part else "" for part in value.form.split("{secret}")]
        lines += [f"{name}={content.join(parts)}", f"export {name}"]
    return ["/bin/sh", "-c", "\n".join((*lines, 'exec "$@"', "")), rendered.name]


def _escaped(value: Any) -> Any:
    match value:
        case str():
            return value.replace("$", "$$")
        case dict():
            return {key: _escaped(item) for key, item in value.items()}
        case list():
            return [_escaped(item) for item in value]
        case _:
            return value


class _Dumper(yaml.SafeDumper):
    """Lists stand below their key, and text of several lines reads as such."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _string(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _string)


def _yaml(value: Definition, indent: int = 0) -> str:
    written = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return "".join(f"{' ' * indent}{line}".rstrip() + "\n" for line in written.splitlines())
