"""`python -m aistack.engine --settings FILE.json`: the engine as a service."""

import argparse
import sys
from pathlib import Path

import uvloop

from aistack.engine.server import serve
from aistack.engine.settings import load
from aistack.errors import UserError


def main() -> int:
    """Run the engine; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m aistack.engine", description="the embedded engine")
    parser.add_argument("--settings", type=Path, required=True, help="the settings file (JSON)")
    arguments = parser.parse_args()
    try:
        uvloop.run(serve(load(arguments.settings), _log))
    except UserError as error:
        print(error.message, error.hint, sep="\n", file=sys.stderr)
        return 1
    return 0


def _log(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
