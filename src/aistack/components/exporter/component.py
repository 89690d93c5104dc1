"""Our exporter: whether each service answers, when the certificate ends, how much room is left."""

from aistack.components.base import ConfigFile, Health, OwnModule, Port, Scrape, Service, template
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
            scrape=Scrape(),
        ),
    )
