"""Open WebUI, the chat in the browser: reaches models only through the gateway, and nothing outside."""

from aistack.components.base import (
    BackupSource,
    Health,
    Image,
    Port,
    PythonProgram,
    SecretValue,
    Service,
    StateDir,
    locked,
)
from aistack.config.schema import Config

VERSION = "0.12.4"

# Open WebUI keeps its settings in its database after the first start and then ignores its environment.
# These are the stack's to decide, so they are released before each start; all others stay the administrator's.
SETTINGS_OF_THE_STACK = (
    "ollama.enable",
    "ollama.base_urls",
    "ollama.api_configs",
    "rag.embedding_engine",
    "rag.embedding_model",
    "rag.ollama.base_url",
    "rag.ollama.api_key",
    "ui.default_models",
    "ui.enable_signup",
    "webui.url",
)

_QUIET = {
    "ANONYMIZED_TELEMETRY": "false",
    "DO_NOT_TRACK": "true",
    "SCARF_NO_ANALYTICS": "true",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "OFFLINE_MODE": "true",
    "ENABLE_VERSION_UPDATE_CHECK": "false",
    "ENABLE_COMMUNITY_SHARING": "false",
    "ENABLE_PIP_INSTALL_FRONTMATTER_REQUIREMENTS": "false",
    "ENABLE_OPENAI_API": "false",
    "RAG_EMBEDDING_MODEL_AUTO_UPDATE": "false",
    "RAG_RERANKING_MODEL_AUTO_UPDATE": "false",
    "WHISPER_MODEL_AUTO_UPDATE": "false",
}


def services(config: Config) -> tuple[Service, ...]:
    """One Open WebUI, with its database and uploads in the state folder `data`."""
    return (
        Service(
            name="chat",
            title="Open WebUI (chat)",
            program=PythonProgram("open-webui", locked("chat"), "open-webui"),
            arguments=("serve", "--host", "{{ place.bind('chat') }}", "--port", "{{ config.chat.port }}"),
            environment=_environment(),
            ports=(Port("http", config.chat.port),),
            states=(StateDir("data", usual="open-webui"),),
            health=Health("/health", start_seconds=180),
            after=("chromadb", "gateway"),
            talks_to=("chromadb", "gateway"),
            image=Image(
                "ghcr.io/open-webui/open-webui",
                f"v{VERSION}",
                ("python", "-m", "uvicorn", "open_webui.main:app", "--forwarded-allow-ips", "*"),
                "curl",
                skip=1,
                instead=config.images.chat,
            ),
            memory_mib=4096,
            backups=(
                BackupSource("sqlite", "data", "webui.db"),
                BackupSource("directory", "data", "uploads"),
            ),
            prepare=(
                "aistack.components.chat.release_settings",
                "{{ place.state('chat', 'data') }}/webui.db",
                *SETTINGS_OF_THE_STACK,
            ),
        ),
    )


def _environment() -> dict[str, str | SecretValue]:
    key = "gateway-internal-key"
    return {
        **_QUIET,
        "DATA_DIR": "{{ place.state('chat', 'data') }}",
        "HOME": "{{ place.state('chat', 'data') }}",
        # It copies its pictures there at each start, beside its own code unless told otherwise.
        "STATIC_DIR": "{{ place.state('chat', 'data') }}/static",
        "WEBUI_NAME": "{{ config.site.name }}",
        "WEBUI_URL": "{{ public.origin }}",
        "CORS_ALLOW_ORIGIN": "{{ public.origins | join(';') }}",
        # Only nginx connects, and it overwrites the forwarded headers.
        "FORWARDED_ALLOW_IPS": "{{ place.proxy_source }}",
        "WEBUI_SESSION_COOKIE_SECURE": "true",
        "WEBUI_AUTH_COOKIE_SECURE": "true",
        "WEBUI_SECRET_KEY": SecretValue("chat-session-key"),
        "WEBUI_ADMIN_EMAIL": "{{ config.site.administrator }}",
        "WEBUI_ADMIN_PASSWORD": SecretValue("administrator-password"),
        "WEBUI_ADMIN_NAME": "Administrator",
        "ENABLE_SIGNUP": "{{ 'true' if config.chat.sign_up else 'false' }}",
        "DEFAULT_USER_ROLE": "pending",
        "ENABLE_OLLAMA_API": "true",
        "OLLAMA_BASE_URLS": "{{ place.url('gateway') }}/ollama",
        "OLLAMA_API_CONFIGS": SecretValue(key, '{"0": {"enable": true, "key": "{secret}"}}'),
        "ENABLE_FORWARD_USER_INFO_HEADERS": "true",
        # Without this a model is shown to administrators alone until one of them has shared it by hand.
        "BYPASS_MODEL_ACCESS_CONTROL": "true",
        # In Ollama's spelling, which always has a tag. Of several the chat offers those that are there;
        # `demo` is, as long as the other could not be fetched.
        "DEFAULT_MODELS": "{{ config.models.chat }},{{ config.models.chat }}:latest,demo:latest",
        "RAG_EMBEDDING_ENGINE": "ollama",
        "RAG_EMBEDDING_MODEL": "{{ config.models.embedding }}",
        "RAG_OLLAMA_BASE_URL": "{{ place.url('gateway') }}/ollama",
        "RAG_OLLAMA_API_KEY": SecretValue(key),
        "VECTOR_DB": "chroma",
        "CHROMA_HTTP_HOST": "{{ place.host('chromadb') }}",
        "CHROMA_HTTP_PORT": "{{ config.vectors.port }}",
    }
