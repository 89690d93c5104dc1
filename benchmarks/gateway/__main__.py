"""`python -m benchmarks.gateway [--quick] [--only MEASURE ...]`: print the tables; the page is left alone."""

import argparse

from benchmarks.gateway.measures import FULL, MEASURES, QUICK, run
from benchmarks.gateway.peers import PEERS
from benchmarks.gateway.report import section


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.gateway", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round of everything, to see that it works")
    parser.add_argument("--only", nargs="+", choices=list(MEASURES), default=list(MEASURES), help="these measures")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS), help="these peers")
    arguments = parser.parse_args()
    print(section(run(QUICK if arguments.quick else FULL, arguments.only, arguments.peers)))


if __name__ == "__main__":
    main()
