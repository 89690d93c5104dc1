"""`python -m aistack.exporter --settings FILE.json`: serve until SIGTERM."""

import argparse
import os
import signal
import sys
from pathlib import Path

from aistack.errors import UserError
from aistack.exporter.collectors import COLLECTORS
from aistack.exporter.gathering import Gathering
from aistack.exporter.server import Server
from aistack.exporter.settings import load


def main() -> int:
    """Run the exporter; returns the exit status when it cannot."""
    parser = argparse.ArgumentParser(prog="python -m aistack.exporter", description="The stack's exporter.")
    parser.add_argument("--settings", type=Path, required=True, help="the settings file (JSON)")
    arguments = parser.parse_args()
    # There is nothing to put away, and a probe under way must not be waited for.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    # Told when the certificate was replaced; each scrape reads it anew anyway.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        settings = load(arguments.settings)
        server = Server(settings.host, settings.port, Gathering(settings, COLLECTORS))
    except UserError as error:
        print(error.message, error.hint, sep="\n", file=sys.stderr)
        return 1
    print(f"listening on http://{settings.host}:{server.server_port}", file=sys.stderr, flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
