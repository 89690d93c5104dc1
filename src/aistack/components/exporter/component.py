"""Our exporter: whether each service answers, when the certificate ends, how much room is left."""

from aistack.components.base import ConfigFile, Health, OwnModule, Port, Scrape, Service, StateDir, template
from aistack.config.schema import Config


def services(config: Config) -> tuple[Service, ...]:
    """One exporter for the stack."""
    return (
        Service(
            name="exporter",
            title="Stack exporter",
            program=OwnModule("aistack.exporter"),
            arguments=("--settings", "{{ place.file('exporter/settings.json') }}"),
            ports=(Port("http", config.monitoring.exporter_port),),
            config_files=(ConfigFile("exporter/settings.json", template("exporter", "settings.json.j2")),),
            health=Health("/health"),
            # Its own folder is on the same disk as those of the others.
            states=(StateDir("space"),),
            handed=("certificate",),
            talks_to=(
                "chat",
                "chromadb",
                "engine",
                "gateway",
                "nginx",
                "nginx-exporter",
                "node-exporter",
                "prometheus",
            ),
            reads_models=True,
            memory_mib=256,
            scrape=Scrape(),
        ),
    )
