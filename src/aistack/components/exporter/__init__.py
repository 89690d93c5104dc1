from aistack.components.exporter.component import services

__all__ = ["services"]
