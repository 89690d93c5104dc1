from aistack.components.nginx.component import services

__all__ = ["services"]
