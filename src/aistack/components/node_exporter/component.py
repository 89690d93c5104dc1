"""The node exporter: numbers about the machine."""

from aistack.components.base import DebianProgram, Health, Image, Port, Scrape, Service
from aistack.config.schema import Config


def services(config: Config) -> tuple[Service, ...]:
    """One exporter for this machine."""
    return (
        Service(
            name="node-exporter",
            title="Node exporter",
            program=DebianProgram("prometheus-node-exporter", "prometheus-node-exporter", "1.3"),
            arguments=(
                "--web.listen-address={{ place.bind('node-exporter') }}:{{ config.monitoring.node_exporter_port }}",
                "--path.rootfs={{ place.machine_root or '/' }}",
                "--path.procfs={{ place.machine_root }}/proc",
                "--path.sysfs={{ place.machine_root }}/sys",
            ),
            ports=(Port("http", config.monitoring.node_exporter_port),),
            health=Health("/"),
            image=Image(
                "prom/node-exporter", "v1.9.1", ("/bin/node_exporter",), "wget", instead=config.images.node_exporter
            ),
            sees_machine=True,
            memory_mib=256,
            scrape=Scrape(),
        ),
    )
