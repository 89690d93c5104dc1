"""The gateway, our own program between everybody and the engine."""

from aistack.components.base import (
    BackupSource,
    ConfigFile,
    Health,
    OwnModule,
    Port,
    Scrape,
    Service,
    StateDir,
    template,
)
from aistack.config.schema import Config

INTERNAL_KEY = "gateway-internal-key"
NODE_KEY = "engine-node-{}-key"
DATABASE_PASSWORD = "gateway-database-password"  # noqa: S105 - a file's name
REDIS_PASSWORD = "gateway-redis-password"  # noqa: S105 - a file's name


def services(config: Config) -> tuple[Service, ...]:
    """One gateway, with its database in the state folder `data`, unless that is a PostgreSQL elsewhere."""
    elsewhere, shared = bool(config.gateway.database), bool(config.gateway.redis)
    return (
        Service(
            name="gateway",
            title="Gateway (API)",
            program=OwnModule("aistack.gateway"),
            arguments=("--settings", "{{ place.file('gateway/settings.json') }}"),
            ports=(Port("http", config.gateway.port),),
            secrets=(INTERNAL_KEY, *[DATABASE_PASSWORD] * elsewhere, *[REDIS_PASSWORD] * shared),
            site_secrets=tuple(NODE_KEY.format(node.name) for node in config.engine.nodes if node.key),
            states=(StateDir("data"), StateDir("audit")),
            config_files=(
                ConfigFile(
                    "gateway/settings.json",
                    template("gateway", "settings.json.j2"),
                    reloadable=True,
                    fixed="{{ config.gateway.database }} {{ config.gateway.redis }}",
                ),
            ),
            health=Health("/health/live"),
            after=("engine",),
            talks_to=("engine", "chat"),
            outbound=bool(config.engine.nodes) or elsewhere or shared,
            memory_mib=1024,
            scrape=Scrape(),
            backups=() if elsewhere else (BackupSource("sqlite", "data", "gateway.db"),),
            stop_seconds=20,
        ),
    )
