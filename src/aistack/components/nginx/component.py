"""nginx, the only program that others can reach: TLS, limits, and the routing table of the stack."""

from aistack.components.base import (
    Check,
    ConfigFile,
    DebianProgram,
    Health,
    Image,
    Port,
    Service,
    StateDir,
    template,
)
from aistack.config.schema import Config


def services(config: Config) -> tuple[Service, ...]:
    """One nginx in front of everything."""
    proxy = config.proxy
    public = [Port("https", proxy.https_port, public=True, address=proxy.address)]
    if proxy.http_port:
        public.append(Port("redirect", proxy.http_port, public=True, address=proxy.address))
    arguments = (
        "-c",
        "{{ place.file('nginx/nginx.conf') }}",
        "-p",
        "{{ place.state('nginx', 'work') }}",
        "-e",
        "stderr",
    )
    return (
        Service(
            name="nginx",
            title="nginx (proxy)",
            program=DebianProgram("nginx", "nginx", "1.18"),
            arguments=(*arguments, "-g", "daemon off;"),
            ports=(*public, Port("status", proxy.status_port)),
            # nginx starts as root may, and its workers as www-data, who must be able to pass through.
            states=(StateDir("work", 0o711),),
            config_files=(ConfigFile("nginx/nginx.conf", template("nginx", "nginx.conf.j2"), reloadable=True),),
            check=Check(
                "nginx/nginx.conf",
                "nginx",
                (
                    "-t",
                    "-q",
                    "-c",
                    "{{ staged }}",
                    "-p",
                    "{{ place.state('nginx', 'work') }}",
                    "-e",
                    "stderr",
                ),
            ),
            handed=("certificate", "certificate_key"),
            health=Health("/health", port="status", tells_loaded=True),
            after=("gateway",),
            talks_to=("gateway", "chat", "prometheus"),
            image=Image("nginx", "1.28.0", ("nginx",), "curl", instead=config.images.nginx),
            memory_mib=512,
        ),
    )
