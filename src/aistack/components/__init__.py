"""All components, in the order in which people think of them. To add one: its folder, and its line here."""

from aistack.components import (
    chat,
    chromadb,
    engine,
    exporter,
    gateway,
    nginx,
    nginx_exporter,
    node_exporter,
    prometheus,
)
from aistack.components.base import Component

COMPONENTS: tuple[Component, ...] = (
    nginx.services,
    chat.services,
    gateway.services,
    engine.services,
    chromadb.services,
    prometheus.services,
    node_exporter.services,
    nginx_exporter.services,
    exporter.services,
)
