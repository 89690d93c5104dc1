"""The source for Ollama-protocol registries: a manifest names the layers, each a blob with its sha256.

The protocol is the Docker registry's, version 2, with media types of Ollama's own. Ollama's templates are in
Go's language, which llama.cpp does not read, so the chat template inside the GGUF is used instead.
"""

import json
import re
from typing import Any

import httpx2

from aistack.errors import ModelError
from aistack.models.errors import HubUnreachable
from aistack.models.names import RegistryName
from aistack.models.transfer import Remote, Resolved
from aistack.models.web import judge, opened, read_text

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_LAYER = "application/vnd.ollama.image."
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LARGEST = 1 << 43  # bytes, 8 TiB: far above any model, far below nonsense


def resolve(client: httpx2.Client, name: RegistryName) -> Resolved:
    """Ask the registry what `name` stands for.

    Raises HubUnreachable, or ModelError when there is no such model, it is not one GGUF file, or the
    manifest is not one.
    """
    url = f"{name.base_url}/v2/{name.namespace}/{name.model}/manifests/{name.tag}"
    with opened(client, url, {"Accept": _MANIFEST}) as response:
        judge(response, f"model {name}")
        layers = _layers(read_text(response), name)
    return Resolved(
        source=f"{name.host}/{name.namespace}/{name.model}:{name.tag}",
        model=_model_layer(layers, name),
        projector=next(iter(layers.get("projector", [])), None),
    )


def _model_layer(layers: dict[str, list[Remote]], name: RegistryName) -> Remote:
    models = layers.get("model", [])
    if "adapter" in layers:
        raise ModelError(f"{name} is an adapter on top of another model", "pull a complete model")
    if len(models) != 1:
        raise ModelError(
            f"{name} is not one GGUF file (it has {len(models)} of them)",
            "only GGUF models can be served here",
        )
    return models[0]


def _layers(manifest: bytes, name: RegistryName) -> dict[str, list[Remote]]:
    """The blobs of a manifest by the last part of their media type."""
    layers: dict[str, list[Remote]] = {}
    try:
        for layer in _parsed(manifest, name)["layers"]:
            media_type = str(layer["mediaType"])
            if media_type.startswith(_LAYER):
                remote = _blob(name, layer["digest"], layer["size"])
                layers.setdefault(media_type.removeprefix(_LAYER), []).append(remote)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{name.host} sent no usable manifest for {name}: {error}") from error
    return layers


def _parsed(manifest: bytes, name: RegistryName) -> dict[str, Any]:
    try:
        answer = json.loads(manifest)
    except ValueError as error:
        hint = "does a proxy or a sign-in page answer in its place?"
        raise HubUnreachable(f"{name.host} does not answer like a registry: {error}", hint) from error
    return answer if isinstance(answer, dict) else {}


def _blob(name: RegistryName, digest: object, size: object) -> Remote:
    """Raises ValueError for a digest or size that cannot be one: both come from outside."""
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ValueError(f"{digest!r} is not a digest")
    if not isinstance(size, int) or not 0 <= size <= _LARGEST:
        raise ValueError(f"{size!r} is not a size")
    url = f"{name.base_url}/v2/{name.namespace}/{name.model}/blobs/{digest}"
    return Remote(url, size, digest, digest.replace(":", "-"))
