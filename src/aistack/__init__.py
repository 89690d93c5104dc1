"""aistack: a private AI service on your own hardware, from one file with one command."""

from importlib.metadata import version

__version__ = version("aistack")
