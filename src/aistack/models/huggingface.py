"""The source for Hugging Face repositories: picks the GGUF file that a name means and says where it lies.

`huggingface_hub` speaks to the hub; the file itself comes through `transfer`, because the library throws away
what it has when a download breaks.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import httpx2

from aistack.errors import ModelError
from aistack.models.errors import HubUnreachable
from aistack.models.names import HubName
from aistack.models.transfer import Remote, Resolved
from aistack.models.web import judge

DEFAULT_ENDPOINT = "https://huggingface.co"
# What is taken when the name does not say: good answers for their size first, then nearest to that.
PREFERENCE = (
    "Q4_K_M", "Q4_K_S", "Q4_K_L", "UD-Q4_K_XL", "Q4_0", "Q4_1", "IQ4_NL", "IQ4_XS", "MXFP4_MOE", "MXFP4",
    "Q5_K_M", "Q5_K_S", "Q5_0", "Q5_1", "Q6_K", "Q8_0", "Q3_K_L", "Q3_K_M", "Q3_K_S",
    "IQ3_M", "IQ3_S", "Q2_K", "BF16", "F16", "F32",
)  # fmt: skip
_PROJECTOR_PREFERENCE = ("F16", "BF16", "Q8_0", "F32")
_QUANTIZATION = re.compile(
    r"(?:^|[-._/])((?:UD-)?(?:I?Q[1-8](?:_[A-Z0-9]+)*|TQ[12]_0|BF16|F16|F32|FP16|FP32|MXFP4(?:_[A-Z]+)*))(?=[-./]|$)",
    re.IGNORECASE,
)
_PART_OF_SEVERAL = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Hub:
    """Which hub to ask, and as whom. No token is sent unless one is given."""

    endpoint: str = DEFAULT_ENDPOINT
    token: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Hub":
        """HF_ENDPOINT and HF_TOKEN, as everywhere."""
        endpoint = environment.get("HF_ENDPOINT") or DEFAULT_ENDPOINT
        return cls(endpoint.rstrip("/"), environment.get("HF_TOKEN") or None)


@dataclass(frozen=True)
class HubFile:
    """A file in a repository; `sha256` (hexadecimal) for those in large-file storage, which models are."""

    path: str
    size: int
    sha256: str | None

    @property
    def quantization(self) -> str:
        """As its name says, in capitals; empty when it does not."""
        found = _QUANTIZATION.findall(self.path.removesuffix(".gguf"))
        return found[-1].upper() if found else ""


def resolve(hub: Hub, name: HubName) -> Resolved:
    """Ask the hub which file `name` means. Raises HubUnreachable, or ModelError when there is none."""
    revision, listing = _listing(hub, name)
    chosen = choose(listing, name)
    projector = choose_projector(listing)
    return Resolved(
        source=f"hf.co/{name.repository_id}/{chosen.path}@{revision[:12]}",
        model=_remote(hub, name, revision, chosen),
        projector=_remote(hub, name, revision, projector) if projector else None,
    )


def choose(listing: tuple[HubFile, ...], name: HubName) -> HubFile:
    """The GGUF file for `name`: the wanted quantization or file name, else by `PREFERENCE`.

    Raises ModelError, naming those there are, when none fits or the one that does comes in parts.
    """
    every = [file for file in listing if file.path.lower().endswith(".gguf") and not _is_extra(file.path)]
    if not every:
        raise ModelError(
            f"hf.co/{name.repository_id} has no GGUF file", "look for a repository whose name ends in -GGUF"
        )
    fitting = [file for file in every if name.quantization is None or _fits(file, name.quantization)]
    whole = [file for file in fitting if not _PART_OF_SEVERAL.search(file.path)]
    if not whole:
        known = sorted({f.quantization or f.path for f in every if not _PART_OF_SEVERAL.search(f.path)})
        problem = "comes in several parts, which cannot be served here" if fitting else "is not there"
        raise ModelError(
            f"hf.co/{name.repository_id}: {name.quantization or 'the model'} {problem}",
            f"there are: {', '.join(known)}" if known else "join the parts with llama.cpp's tools and import the file",
        )
    return min(whole, key=lambda file: (_rank(file.quantization, PREFERENCE), len(file.path), file.path))


def choose_projector(listing: tuple[HubFile, ...]) -> HubFile | None:
    """The projector that lets the model see, where the repository has one."""
    found = [f for f in listing if f.path.lower().endswith(".gguf") and "mmproj" in f.path.lower()]
    return min(found, key=lambda file: (_rank(file.quantization, _PROJECTOR_PREFERENCE), file.path), default=None)


def _is_extra(path: str) -> bool:
    return "mmproj" in path.lower() or "imatrix" in path.lower()


def _fits(file: HubFile, wanted: str) -> bool:
    name = file.path.rpartition("/")[2].lower()
    return wanted.upper() == file.quantization or wanted.lower() in (name, name.removesuffix(".gguf"))


def _rank(quantization: str, preference: tuple[str, ...]) -> int:
    return preference.index(quantization) if quantization in preference else len(preference)


def _listing(hub: Hub, name: HubName) -> tuple[str, tuple[HubFile, ...]]:
    """The repository's newest revision and its files."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # read when the library is imported, which is why it is here
    from huggingface_hub import HfApi

    with _hub_errors(hub, name):
        # token=False: without it the library takes one that lies in the home directory.
        api = HfApi(endpoint=hub.endpoint, token=hub.token or False, library_name="aistack")
        info = api.model_info(name.repository_id, files_metadata=True, timeout=_TIMEOUT_S)
    listing = tuple(
        HubFile(entry.rfilename, entry.size or 0, entry.lfs.sha256 if entry.lfs else None)
        for entry in info.siblings or []
    )
    return info.sha or "main", listing


@contextlib.contextmanager
def _hub_errors(hub: Hub, name: HubName) -> Iterator[None]:
    """Turn what the library raises into HubUnreachable or ModelError."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        yield
    except GatedRepoError as error:
        hint = "accept them on its page, then set HF_TOKEN"
        raise ModelError(f"hf.co/{name.repository_id} wants its terms accepted", hint) from error
    except RepositoryNotFoundError as error:
        hint = "check the name; a private one needs HF_TOKEN"
        raise ModelError(f"{hub.endpoint} has no repository {name.repository_id}", hint) from error
    except HfHubHTTPError as error:
        judge(error.response, f"the repository {name.repository_id}")
        raise
    except (OSError, httpx2.RequestError) as error:
        hint = "check the network, then try again"
        raise HubUnreachable(f"cannot reach {hub.endpoint}: {error}", hint) from error
    except (ValueError, TypeError, KeyError) as error:
        hint = "does a proxy or a sign-in page answer in its place?"
        raise HubUnreachable(f"{hub.endpoint} does not answer like a hub: {error}", hint) from error


def _remote(hub: Hub, name: HubName, revision: str, file: HubFile) -> Remote:
    from huggingface_hub import hf_hub_url

    url = hf_hub_url(name.repository_id, file.path, revision=revision, endpoint=hub.endpoint)
    digest = f"sha256:{file.sha256}" if file.sha256 and _SHA256.fullmatch(file.sha256) else None
    # Without a digest the address stands for the content: it has the revision in it.
    key = f"sha256-{file.sha256}" if digest else f"url-{hashlib.sha256(url.encode()).hexdigest()}"
    headers = {"Authorization": f"Bearer {hub.token}"} if hub.token else {}
    return Remote(url, file.size, digest, key, headers)
