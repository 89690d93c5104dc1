"""Prometheus: scrapes every service of the plan that has something to say."""

from aistack.components.base import (
    Check,
    ConfigFile,
    DebianProgram,
    Health,
    Image,
    Port,
    Scrape,
    Service,
    StateDir,
    template,
)
from aistack.config.schema import Config


def services(config: Config) -> tuple[Service, ...]:
    """One Prometheus; people reach it below /prometheus/ as administrators."""
    port = config.monitoring.prometheus_port
    return (
        Service(
            name="prometheus",
            title="Prometheus (metrics)",
            program=DebianProgram("prometheus", "prometheus", "2.42"),
            arguments=(
                "--config.file={{ place.file('prometheus/prometheus.yml') }}",
                "--storage.tsdb.path={{ place.state('prometheus', 'data') }}",
                "--storage.tsdb.retention.time={{ config.monitoring.retention }}",
                "--web.listen-address={{ place.bind('prometheus') }}:{{ config.monitoring.prometheus_port }}",
                "--web.external-url={{ public.origin }}/prometheus/",
                "--web.route-prefix=/prometheus",
                "--web.console.libraries=/etc/prometheus/console_libraries",
                "--web.console.templates=/etc/prometheus/consoles",
            ),
            ports=(Port("http", port),),
            states=(StateDir("data"),),
            config_files=(
                ConfigFile("prometheus/prometheus.yml", template("prometheus", "prometheus.yml.j2"), reloadable=True),
            ),
            check=Check("prometheus/prometheus.yml", "promtool", ("check", "config", "{{ staged }}")),
            health=Health("/prometheus/-/ready", start_seconds=60),
            scrape=Scrape("/prometheus/metrics"),
            talks_to=("engine", "exporter", "gateway", "nginx-exporter", "node-exporter"),
            image=Image("prom/prometheus", "v3.13.0", ("prometheus",), "wget", instead=config.images.prometheus),
            memory_mib=4096,
        ),
    )
