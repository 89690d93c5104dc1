from aistack.components.node_exporter.component import services

__all__ = ["services"]
