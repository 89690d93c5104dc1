"""The only place that asks a port: is the service behind it well, and what does it say?

`python -m aistack.system.probe URL` is the health check in our own containers.
"""

import http.client
import sys
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from aistack.errors import ServiceError


def ask(url: str, timeout_s: float = 2.0) -> str | None:
    """GET `url` (plain http): None when it answers 200, else in a few words what came instead.

    A fragment of `url` is what the answer must hold.
    """
    answer = _answer(url, timeout_s, most=65536)
    if isinstance(answer, str):
        return answer
    return None if urlsplit(url).fragment.encode() in answer else "it has not loaded what it was last given"


def fetch(url: str, timeout_s: float = 5.0) -> bytes:
    """What GET `url` (plain http) answers with 200. Raises ServiceError for anything else."""
    answer = _answer(url, timeout_s)
    if isinstance(answer, str):
        raise ServiceError(f"{url}: {answer}", "`aistack status` shows what runs")
    return answer


def _answer(url: str, timeout_s: float, most: int | None = None) -> bytes | str:
    """The body of the answer, or what came instead, in a few words."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        # Ollama refuses a Host header that is neither its own name nor an address of this machine.
        connection.request("GET", parts.path or "/", headers={"Connection": "close"})
        response = connection.getresponse()
        answer = response.read(most)
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
    except ConnectionRefusedError:
        return "nothing listens there"
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    return answer if response.status == 200 else f"it answers {response.status}"


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
