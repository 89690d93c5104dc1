"""The nginx exporter: turns nginx's status page into numbers for Prometheus."""

from aistack.components.base import DebianProgram, Health, Image, Port, Scrape, Service
from aistack.config.schema import Config


def services(config: Config) -> tuple[Service, ...]:
    """One exporter for the proxy."""
    return (
        Service(
            name="nginx-exporter",
            title="nginx exporter",
            program=DebianProgram("prometheus-nginx-exporter", "prometheus-nginx-exporter", "0.9"),
            arguments=(
                "-web.listen-address={{ place.bind('nginx-exporter') }}:{{ config.monitoring.nginx_exporter_port }}",
                "-nginx.scrape-uri={{ place.url('nginx', 'status') }}/stub_status",
            ),
            ports=(Port("http", config.monitoring.nginx_exporter_port),),
            health=Health("/metrics"),
            after=("nginx",),
            talks_to=("nginx",),
            image=Image(
                "nginx/nginx-prometheus-exporter",
                "1.5.3",
                ("/usr/bin/nginx-prometheus-exporter",),
                "",
                instead=config.images.nginx_exporter,
            ),
            memory_mib=256,
            scrape=Scrape(),
        ),
    )
