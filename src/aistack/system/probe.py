"""The only place that asks a port: is the service behind it well?

`python -m aistack.system.probe URL` is the health check in our own containers.
"""

import http.client
import sys
import time
from collections.abc import Callable
from urllib.parse import urlsplit


def ask(url: str, timeout_s: float = 2.0) -> str | None:
    """GET `url` (plain http): None when it answers 200, else in a few words what came instead.

    A fragment of `url` is what the answer must hold.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        # Ollama refuses a Host header that is neither its own name nor an address of this machine.
        connection.request("GET", parts.path or "/", headers={"Connection": "close"})
        response = connection.getresponse()
        answer = response.read(65536)
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
    except ConnectionRefusedError:
        return "nothing listens there"
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    if response.status != 200:
        return f"it answers {response.status}"
    return None if parts.fragment.encode() in answer else "it has not loaded what it was last given"


def wait(
    question: Callable[[], str | None],
    timeout_s: float,
    *,
    interval_s: float = 0.1,
) -> str | None:
    """Ask until the answer is None (well), or the time is over; returns the last reason."""
    end = time.monotonic() + timeout_s
    while True:
        reason = question()
        if reason is None:
            return None
        if time.monotonic() >= end:
            return f"{reason} after {timeout_s:.0f} s"
        time.sleep(interval_s)


if __name__ == "__main__":
    sys.exit(ask(sys.argv[1]))
