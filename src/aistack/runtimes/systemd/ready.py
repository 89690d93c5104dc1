"""`python -m aistack.runtimes.systemd.ready URL SECONDS`: ends when the service answers, so that systemd knows."""

import os
import sys

from aistack.system import probe


def main() -> None:
    """Exit with 0 when `URL` answers 200 within `SECONDS`, else, or when the process MAINPID ends, with 1 and why."""
    url, seconds = sys.argv[1:]
    service = int(os.environ["MAINPID"])
    # systemd looks after a main process that ended only when this has.
    reason = probe.wait(lambda: probe.ask(url) if _lives(service) else None, float(seconds))
    if reason or not _lives(service):
        sys.exit(f"not ready: {reason or 'it ended'}")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main()
