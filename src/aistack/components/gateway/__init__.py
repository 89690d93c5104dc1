from aistack.components.gateway.component import services

__all__ = ["services"]
