"""What may stand in stack.toml: the one schema behind validation, the sample file and the reference page.

Every field's description is printed above it in `stack.example.toml`, so it is written for the
person who edits that file.
"""

import ipaddress
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from aistack.config.paths import unusable

PortNumber = Annotated[int, Field(ge=1, le=65535)]


def _host_name(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        if len(value) > 253 or not re.fullmatch(r"(?!-)[A-Za-z0-9-]{1,63}(\.(?!-)[A-Za-z0-9-]{1,63})*", value):
            raise ValueError("is neither a host name nor an IP address") from None
    return value.lower()


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError("is not an IP address") from None


def _absolute_path(value: str) -> str:
    if value and not value.startswith("/"):
        raise ValueError("is not an absolute path")
    return value


def _plain_path(value: str) -> str:
    if found := unusable(value):
        raise ValueError(f"holds {found!r}, which nginx's configuration cannot")
    return value


HostName = Annotated[str, AfterValidator(_host_name)]
Address = Annotated[str, AfterValidator(_address)]
AbsolutePath = Annotated[str, AfterValidator(_absolute_path)]
PlainPath = Annotated[str, AfterValidator(_absolute_path), AfterValidator(_plain_path)]
Rate = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,6}r/[sm]$")]
Duration = Annotated[str, StringConstraints(pattern=r"^(-1|0|[1-9][0-9]{0,5}(ms|s|m|h|d))$")]
Retention = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,4}(h|d|w|y)$")]
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,255}$")]
# Open WebUI takes user@host.tld, and user@localhost for a machine without a domain.
Mail = Annotated[str, StringConstraints(pattern=r"^[^@\s\"'\\]+@([^@\s\"'\\]+\.[^@\s\"'\\]+|localhost)$")]
Image = Annotated[str, StringConstraints(pattern=r"^([a-z0-9][A-Za-z0-9._/:@-]{0,255})?$")]
NodeName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
# No name and password in it: stack.toml is not a secret.
NodeAddress = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#@]+(/[^\s?#@]*)?$")]
# The password is not in it either.
DatabaseAddress = Annotated[
    str, StringConstraints(pattern=r"^(postgresql://[A-Za-z0-9_.-]+@[^\s/?#@:]+(:[0-9]{1,5})?/[A-Za-z0-9_-]+)?$")
]
RedisAddress = Annotated[
    str,
    StringConstraints(
        pattern=r"^(rediss?://([A-Za-z0-9_.-]+@)?(\[[0-9a-fA-F:]+\]|[^\s/?#@:\[\]]+)(:[0-9]{1,5})?(/[0-9]{1,5})?)?$"
    ),
]
UseLimit = Annotated[int, Field(ge=0, le=10**15)]
# Shown in pages and passed on in environments: no control characters, no quotes to escape.
Title = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\"'\\<>{}]{1,60}$")]


class Table(BaseModel):
    """A table of stack.toml: unknown keys are refused, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Site(Table):
    """Who the service is for."""

    name: Title = Field("AI Stack", description="Shown in the browser's title and on the sign-in page.")
    host_names: tuple[HostName, ...] = Field(
        (),
        strict=False,
        description="Names and addresses under which people reach this machine; the first is the one that is\n"
        "printed. Empty: this machine's own name, its addresses, and localhost.",
    )
    administrator: Mail = Field(
        "admin@localhost",
        description="E-mail address of the first account, an administrator, made on the first start.",
    )


class Limits(Table):
    """How much one client address may ask for before it gets 429 Too Many Requests."""

    api_rate: Rate = Field(
        "30r/m", description="API requests a client address may make, per second (r/s) or minute (r/m)."
    )
    api_burst: int = Field(
        10, ge=1, le=100_000, description="API requests above the rate that are let through at once."
    )
    chat_rate: Rate = Field(
        "10r/s", description="The same for what people do in the chat (sending, saving, signing in)."
    )
    chat_burst: int = Field(
        20, ge=1, le=100_000, description="Chat requests above the rate that are let through at once."
    )
    read_rate: Rate = Field(
        "50r/s",
        description="The same for what the chat's pages read; opening one takes about 30 such requests. Static\n"
        "files (scripts, fonts) do not count.",
    )
    read_burst: int = Field(500, ge=1, le=100_000, description="Reads above the rate that are let through at once.")


class Proxy(Table):
    """nginx, the only program that others can reach."""

    address: Address = Field(
        "0.0.0.0",  # noqa: S104 - the one program that is meant to be public
        description='Address to listen on; "127.0.0.1" keeps the stack to this machine.',
    )
    https_port: PortNumber = Field(8443, description="Port for HTTPS.")
    http_port: int = Field(0, ge=0, le=65535, description="Port that redirects to HTTPS; 0: none.")
    status_port: PortNumber = Field(8081, description="Loopback port for nginx's own numbers.")
    max_upload_mb: int = Field(100, ge=1, le=102_400, description="Largest upload, in MB.")
    certificate: PlainPath = Field(
        "", description="Certificate chain (PEM) to use instead of one from the stack's own authority."
    )
    certificate_key: PlainPath = Field("", description="Its private key.")
    limits: Limits = Limits()


class Chat(Table):
    """Open WebUI, the chat in the browser."""

    port: PortNumber = Field(3000, description="Loopback port.")
    sign_up: bool = Field(False, description="Whether people may register; a new account waits for an administrator.")


class Audit(Table):
    """The audit log: who asked which model, when, with how many tokens, and how it ended."""

    enabled: bool = Field(True, description="Whether it is written.")
    prompts: bool = Field(False, description="Whether what people ask is written too. Answers never are.")
    max_mb: int = Field(100, ge=1, le=100_000, description="Size at which the file is turned over.")
    keep: int = Field(9, ge=1, le=1000, description="How many full files are kept; the oldest goes first.")


class KeyLimits(Table):
    """How much each API key may use that has no limits of its own (`aistack keys`); 0: no limit."""

    requests_per_minute: UseLimit = Field(0, description="Requests in any 60 seconds.")
    tokens_per_minute: UseLimit = Field(0, description="Tokens, read and written, in any 60 seconds.")
    tokens_per_day: UseLimit = Field(0, description="Tokens in any 24 hours.")
    tokens_per_month: UseLimit = Field(0, description="Tokens in any 30 days.")


class PeopleLimits(KeyLimits):
    """How much each user of the chat may use whose role has none of its own (roles); 0: no limit."""


class RoleLimits(Table):
    """The limits of people with one role; those that are not given are those of all people."""

    requests_per_minute: UseLimit | None = None
    tokens_per_minute: UseLimit | None = None
    tokens_per_day: UseLimit | None = None
    tokens_per_month: UseLimit | None = None


class UseLimits(Table):
    """How much may be used through the gateway. More is refused with 429 until enough time has passed."""

    roles: dict[Literal["admin", "user"], RoleLimits] = Field(
        {},
        description="Other limits for people with a role in the chat:\n"
        "{ admin = { tokens_per_day = 0 }, user = { requests_per_minute = 20 } }.",
    )
    keys: KeyLimits = KeyLimits()
    people: PeopleLimits = PeopleLimits()


class Gateway(Table):
    """The API for scripts, and the only way to the engine."""

    port: PortNumber = Field(8080, description="Loopback port.")
    queue: int = Field(
        500,
        ge=1,
        le=100_000,
        description="Requests that may wait for one model; further ones get 429 Too Many Requests at once.",
    )
    truncation: Literal["warn", "refuse"] = Field(
        "warn",
        description='What to do about a prompt that is longer than what the engine reads: "warn" says so in the\n'
        'header x-aistack-truncated, "refuse" answers 400.',
    )
    aliases: dict[ModelName, ModelName] = Field(
        {}, description='Names for models that stay when the model changes: { default = "qwen3:8b" }.'
    )
    fallbacks: dict[ModelName, ModelName] = Field(
        {},
        description='Models to answer in the place of others whose nodes are all down: { "qwen3:32b" = "qwen3:8b" }.',
    )
    database: DatabaseAddress = Field(
        "",
        description="PostgreSQL for keys and usage: postgresql://USER@HOST:5432/NAME, with the password in the file\n"
        "secrets/gateway-database-password. Empty: a file of SQLite.",
    )
    redis: RedisAddress = Field(
        "",
        description="Redis for limits that several gateways share: redis://USER@HOST:6379/0, or rediss:// with TLS;\n"
        "with the password in the file secrets/gateway-redis-password. Empty: each gateway counts for itself.",
    )
    audit: Audit = Audit()
    limits: UseLimits = UseLimits()


class Node(Table):
    """Another engine, on another machine of the site."""

    name: NodeName
    kind: Literal["llamacpp", "ollama", "openai"]
    url: NodeAddress
    slots: int = Field(0, ge=0, le=10_000)
    key: bool = False


class Engine(Table):
    """What runs the models."""

    kind: Literal["llamacpp", "ollama"] = Field(
        "llamacpp",
        description='"llamacpp": built in, nothing to install. "ollama": an installed Ollama, run for you.',
    )
    port: PortNumber = Field(11434, description="Loopback port.")
    max_loaded_models: int = Field(3, ge=1, le=64, description="Models kept in memory at once.")
    keep_alive: Duration = Field(
        "5m", description='How long an idle model stays loaded: "30s", "5m", "2h"; "-1": for ever.'
    )
    num_parallel: int = Field(4, ge=1, le=256, description="Requests that one model answers at the same time.")
    context_length: int = Field(
        8192,
        ge=256,
        le=1_048_576,
        description="Tokens each of these requests may span; memory grows with the product.",
    )
    threads: int = Field(0, ge=0, le=1024, description="Processor threads; 0: one a core. (Only llamacpp.)")
    gpu: Literal["auto", "none", "nvidia", "amd"] = Field(
        "auto",
        description='Whose graphics cards it may use; "auto": those that work, if there are any. (Only ollama, under\n'
        "systemd and in containers.)",
    )
    nodes: tuple[Node, ...] = Field(
        (),
        strict=False,
        description='More engines: [{ name = "gpu2", kind = "ollama", url = "http://10.0.0.6:11434" }], or a table\n'
        '[[engine.nodes]] each. kind: "ollama", "llamacpp" (an engine of aistack) or "openai" (vLLM and others that\n'
        "speak OpenAI's API). A request goes to the node with least to do among those that have its model. slots:\n"
        "requests that it works on at once for a model (Ollama: its OLLAMA_NUM_PARALLEL; 0: what it says itself, or\n"
        "1 for ollama, 32 for openai). key = true: it wants a key (vLLM's --api-key), which lies in the file\n"
        "secrets/engine-node-NAME-key beside this one.",
    )


class Models(Table):
    """The models that `up` fetches. `hf.co/ORG/REPO:QUANT` comes from Hugging Face, the rest from Ollama's registry."""

    chat: ModelName = Field("hf.co/Qwen/Qwen3-1.7B-GGUF:Q8_0", description="The chat model that new chats start with.")
    embedding: ModelName = Field("all-minilm", description="The model that turns documents into vectors.")


class Vectors(Table):
    """Chroma, the vector store."""

    port: PortNumber = Field(8000, description="Loopback port.")


class Monitoring(Table):
    """Prometheus and what it scrapes."""

    prometheus_port: PortNumber = Field(9090, description="Loopback port of Prometheus.")
    node_exporter_port: PortNumber = Field(9100, description="Loopback port of the exporter for the machine.")
    nginx_exporter_port: PortNumber = Field(9113, description="Loopback port of the exporter for nginx.")
    exporter_port: PortNumber = Field(9101, description="Loopback port of the exporter for the stack itself.")
    retention: Retention = Field("15d", description="How long measurements are kept.")


class Locations(Table):
    """Folders that may lie elsewhere."""

    programs: AbsolutePath = Field(
        "",
        description="Folder for the virtual environments of Open WebUI and Chroma (2 GB); stacks may share one.",
    )
    models: AbsolutePath = Field("", description="Folder for the models of the built-in engine.")
    usual_places: bool = Field(
        True,
        description="Under systemd: data lie where people look for them (/var/lib/open-webui, /var/lib/chromadb,\n"
        "/var/lib/ollama). false: all below /var/lib/ai-stack, beside what others have there.",
    )


class Images(Table):
    """Container images to use instead of the pinned ones, such as `registry.example/nginx:1.28.0`. (Only compose.)"""

    aistack: Image = Field("", description="Gateway, engine and exporter. Empty: built here.")
    nginx: Image = Field("", description="nginx, 1.27.3 or newer.")
    chat: Image = Field("", description="Open WebUI.")
    chromadb: Image = Field("", description="ChromaDB.")
    prometheus: Image = Field("", description="Prometheus.")
    node_exporter: Image = Field("", description="The exporter for the machine.")
    nginx_exporter: Image = Field("", description="The exporter for nginx.")
    ollama: Image = Field("", description="Ollama.")


class Config(Table):
    """The whole of stack.toml."""

    runtime: Literal["process", "systemd", "compose"] = Field(
        "process",
        description='What keeps the services running. "process": plain processes under supervisord, as any user.\n'
        '"systemd": hardened units with a user each; needs root.\n'
        '"compose": containers, by Docker Compose.',
    )
    site: Site = Site()
    proxy: Proxy = Proxy()
    chat: Chat = Chat()
    gateway: Gateway = Gateway()
    engine: Engine = Engine()
    models: Models = Models()
    vectors: Vectors = Vectors()
    monitoring: Monitoring = Monitoring()
    paths: Locations = Locations()
    images: Images = Images()
