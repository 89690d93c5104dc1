"""The engine that runs the models: our own around llama.cpp, or an installed Ollama that we start and configure."""

from aistack.components.base import (
    ConfigFile,
    Health,
    Image,
    InstalledProgram,
    OwnModule,
    Port,
    Scrape,
    Service,
    StateDir,
    template,
)
from aistack.config.schema import Config

OLLAMA = "0.34.0"


def services(config: Config) -> tuple[Service, ...]:
    """One engine of the kind that the site chose, always called `engine`."""
    return (_llamacpp(config) if config.engine.kind == "llamacpp" else _ollama(config),)


def _llamacpp(config: Config) -> Service:
    return Service(
        name="engine",
        title="Engine (llama.cpp)",
        # llama.cpp's wheel links to the compiler's OpenMP library and does not bring it; a bare Debian has none.
        program=OwnModule("aistack.engine", package="libgomp1", library="libgomp.so.1"),
        arguments=("--settings", "{{ place.file('engine/settings.json') }}"),
        ports=(Port("http", config.engine.port),),
        states=(StateDir("run"),),
        config_files=(ConfigFile("engine/settings.json", template("engine", "settings.json.j2")),),
        health=Health("/health"),
        scrape=Scrape(),
        reads_models=True,
        tasks=2048,
        stop_seconds=20,
    )


def _ollama(config: Config) -> Service:
    engine = config.engine
    return Service(
        name="engine",
        title="Engine (Ollama)",
        program=InstalledProgram("ollama", 'install Ollama, or set engine.kind = "llamacpp" in stack.toml'),
        arguments=("serve",),
        ports=(Port("http", engine.port),),
        states=(StateDir("models", usual="ollama"),),
        outbound=True,
        uses_gpu=True,
        image=Image("ollama/ollama", OLLAMA, ("ollama",), "ollama", instead=config.images.ollama, amd="-rocm"),
        tasks=2048,
        environment={
            "HOME": "{{ place.state('engine', 'models') }}",
            "OLLAMA_HOST": "{{ place.bind('engine') }}:{{ config.engine.port }}",
            "OLLAMA_MODELS": "{{ place.state('engine', 'models') }}",
            "OLLAMA_NUM_PARALLEL": str(engine.num_parallel),
            "OLLAMA_MAX_LOADED_MODELS": str(engine.max_loaded_models),
            # Ollama reads Go's durations, which know no days, and falls back to 5m without a word.
            "OLLAMA_KEEP_ALIVE": "{{ config.engine.keep_alive | seconds }}s",
            "OLLAMA_CONTEXT_LENGTH": str(engine.context_length),
            "OLLAMA_NO_CLOUD": "1",
        },
        # Ollama has no health path of its own; its version costs nothing and needs no model. It looks for
        # graphics cards before it answers.
        health=Health("/api/version", start_seconds=120),
    )
