from aistack.components.nginx_exporter.component import services

__all__ = ["services"]
