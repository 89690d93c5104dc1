from aistack.components.chromadb.component import services

__all__ = ["services"]
