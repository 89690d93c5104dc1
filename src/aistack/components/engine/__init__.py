from aistack.components.engine.component import services

__all__ = ["services"]
