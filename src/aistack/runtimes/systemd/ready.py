"""`python -m aistack.runtimes.systemd.ready URL SECONDS`: ends when the service answers, so that systemd knows."""

import sys

from aistack.system import probe


def main() -> None:
    """Exit with 0 when `URL` answers 200 within `SECONDS`, else with 1 and the reason."""
    url, seconds = sys.argv[1:]
    reason = probe.wait(lambda: probe.ask(url), float(seconds))
    if reason:
        sys.exit(f"not ready: {reason}")


if __name__ == "__main__":
    main()
