"""ChromaDB, the vector store: the Rust server of `chroma run`, on loopback only, as it has no authentication."""

from aistack.components.base import BackupSource, Health, Image, Port, PythonProgram, Service, StateDir, locked
from aistack.config.schema import Config

VERSION = "1.5.9"


def services(config: Config) -> tuple[Service, ...]:
    """One server, with its data in the state folder `data`."""
    return (
        Service(
            name="chromadb",
            title="ChromaDB (vectors)",
            program=PythonProgram("chromadb", locked("chromadb"), "chroma"),
            arguments=(
                "run",
                "--path", "{{ place.state('chromadb', 'data') }}",
                "--host", "{{ place.bind('chromadb') }}",
                "--port", "{{ config.vectors.port }}",
            ),
            environment={"ANONYMIZED_TELEMETRY": "False"},
            ports=(Port("http", config.vectors.port),),
            states=(StateDir("data", usual="chromadb"),),
            image=Image("chromadb/chroma", VERSION, ("chroma",), "bash", instead=config.images.chromadb),
            memory_mib=8192,
            health=Health("/api/v2/heartbeat"),
            backups=(BackupSource("directory", "data"),),
        ),
    )  # fmt: skip
