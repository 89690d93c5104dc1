from aistack.components.prometheus.component import services

__all__ = ["services"]
