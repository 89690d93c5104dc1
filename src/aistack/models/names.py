"""What a model is called: the one place that reads the names people type and the hubs use.

Names follow Ollama: `model`, `model:tag`, `namespace/model:tag`, `host/namespace/model:tag`;
`hf.co/ORGANISATION/REPOSITORY[:QUANTIZATION]` is a Hugging Face repository.
"""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from aistack.errors import ModelError

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
_HUB_HOSTS = ("hf.co", "huggingface.co")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}")
_HOST = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9.\-]{0,251}[A-Za-z0-9])?(?::[0-9]{1,5})?|\[[0-9A-Fa-f:]+\](?::[0-9]{1,5})?"
)
_LONGEST_FILE_NAME = 200  # bytes; leaves room for `.mmproj.gguf` and a partial's suffix below the usual 255


@dataclass(frozen=True)
class HubName:
    """A Hugging Face repository and, where the name has one, the wanted quantization."""

    organisation: str
    repository: str
    quantization: str | None

    @property
    def repository_id(self) -> str:
        """`ORGANISATION/REPOSITORY`, as the hub's API wants it."""
        return f"{self.organisation}/{self.repository}"

    def __str__(self) -> str:
        return f"hf.co/{self.repository_id}" + (f":{self.quantization}" if self.quantization else "")


@dataclass(frozen=True)
class RegistryName:
    """A model in an Ollama-protocol registry. `scheme` is `https`, or `http` for loopback only."""

    scheme: str
    host: str
    namespace: str
    model: str
    tag: str

    @property
    def base_url(self) -> str:
        """`SCHEME://HOST`, without a slash at the end."""
        return f"{self.scheme}://{self.host}"

    def __str__(self) -> str:
        place = "" if self.host == DEFAULT_HOST else f"{self.host}/"
        inside = "" if not place and self.namespace == DEFAULT_NAMESPACE else f"{self.namespace}/"
        return f"{place}{inside}{self.model}" + ("" if self.tag == DEFAULT_TAG else f":{self.tag}")


def parse(name: str) -> HubName | RegistryName:
    """Read a name as somebody typed it. Raises ModelError when it cannot be one."""
    scheme, rest = _split_scheme(name.strip())
    parts = rest.split("/")
    if parts[0].lower() in _HUB_HOSTS:
        return _hub_name(name, parts[1:])
    return _registry_name(name, scheme, parts)


def canonical(name: str) -> str:
    """The one spelling under which the store keeps `name`: `x:latest` is `x`, defaults are left out.

    A name that no hub could have (a file somebody dropped in) is kept as it is, less `:latest`.
    """
    try:
        return str(parse(name))
    except ModelError:
        return name.strip().removesuffix(f":{DEFAULT_TAG}")


def fetched_in_clear(name: str) -> bool:
    """Whether `name` comes over plain HTTP: from a registry on this very machine. Raises ModelError."""
    found = parse(name)
    return isinstance(found, RegistryName) and found.scheme == "http"


def file_stem(name: str) -> str:
    """The file name, without its ending, that stands for `name` in the models folder.

    Percent-encoding leaves no slash, so no name leaves the folder. Raises ModelError for a name that
    is empty, hidden (starts with a dot), holds control characters or is too long for a file.
    """
    kept = canonical(name)
    stem = quote(kept, safe="")
    if not kept or kept.startswith(".") or any(ord(letter) < 32 for letter in kept):
        raise _not_a_name(name)
    if len(stem) > _LONGEST_FILE_NAME:
        raise ModelError(f"the model name {name[:40]}... is too long", "use a shorter name")
    return stem


def from_file_stem(stem: str) -> str:
    """The model name that a file `<stem>.gguf` stands for."""
    return canonical(unquote(stem))


def is_loopback(host: str) -> bool:
    """Whether `host` (with or without a port) can only be this machine."""
    bare = re.sub(r":[0-9]+$", "", host) if not host.endswith("]") else host
    if bare.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare.strip("[]")).is_loopback
    except ValueError:
        return False


def _split_scheme(name: str) -> tuple[str, str]:
    for scheme in ("https", "http"):
        if name.lower().startswith(f"{scheme}://"):
            return scheme, name[len(scheme) + 3 :]
    return "", name


def _hub_name(name: str, parts: list[str]) -> HubName:
    if len(parts) != 2:
        raise _not_a_name(name)
    repository, _, quantization = parts[1].partition(":")
    wanted = "" if quantization == DEFAULT_TAG else quantization
    for part in (parts[0], repository, *([wanted] if wanted else [])):
        _check_part(name, part)
    return HubName(parts[0], repository, wanted or None)


def _registry_name(name: str, scheme: str, parts: list[str]) -> RegistryName:
    if len(parts) > 3 or (scheme and len(parts) < 2):
        raise _not_a_name(name)
    last, _, tag = parts[-1].partition(":")
    namespace = parts[-2] if len(parts) > 1 else DEFAULT_NAMESPACE
    host = parts[0] if len(parts) == 3 else DEFAULT_HOST
    if len(parts) == 2 and (scheme or _looks_like_host(parts[0])):
        host, namespace = parts[0], DEFAULT_NAMESPACE
    for part in (namespace, last, tag or DEFAULT_TAG):
        _check_part(name, part)
    if not _HOST.fullmatch(host):
        raise _not_a_name(name)
    return RegistryName(_scheme_for(name, scheme, host), host.lower(), namespace, last, tag or DEFAULT_TAG)


def _looks_like_host(part: str) -> bool:
    return ":" in part or "." in part or part.lower() == "localhost"


def _scheme_for(name: str, scheme: str, host: str) -> str:
    if scheme == "http" and not is_loopback(host):
        raise ModelError(f"{name} would be fetched without encryption", "write https://, or the name without http://")
    return scheme or ("http" if is_loopback(host) else "https")


def _check_part(name: str, part: str) -> None:
    if not _PART.fullmatch(part) or ".." in part:
        raise _not_a_name(name)


def _not_a_name(name: str) -> ModelError:
    return ModelError(
        f"{name!r} is not a model name",
        "names look like `qwen3:1.7b`, `host/namespace/model:tag` or `hf.co/ORGANISATION/REPOSITORY:Q4_K_M`",
    )
