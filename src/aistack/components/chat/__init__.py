from aistack.components.chat.component import services

__all__ = ["services"]
