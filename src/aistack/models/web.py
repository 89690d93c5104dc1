"""How the model sources speak HTTP: time limits, redirects, and what a refusal means in words."""

import contextlib
from collections.abc import Iterator, Mapping

import httpx2

from aistack import __version__
from aistack.errors import ModelError
from aistack.models.errors import HubUnreachable

_MOST_REDIRECTS = 8
_LONGEST_TEXT = 4 << 20  # bytes of a manifest; real ones have some thousand


def open_client(connect_s: float = 10.0, silence_s: float = 60.0) -> httpx2.Client:
    """A client that gives up on connecting after `connect_s`, and on a silent server after `silence_s`.

    Proxies come from the environment (HTTPS_PROXY, NO_PROXY), as for every program, but not for loopback.
    """
    direct = {f"all://{host}": None for host in ("127.0.0.1", "localhost", "[::1]")}
    return httpx2.Client(
        timeout=httpx2.Timeout(silence_s, connect=connect_s),
        mounts=direct,
        headers={"User-Agent": f"aistack/{__version__}", "Accept-Encoding": "identity"},
    )


@contextlib.contextmanager
def opened(client: httpx2.Client, url: str, headers: Mapping[str, str]) -> Iterator[httpx2.Response]:
    """The answer to a GET, its body not yet read. Follows redirects, but never to less safety.

    `Authorization` goes only to the host that it was meant for. Raises HubUnreachable or ModelError.
    """
    try:
        response = _follow(client, httpx2.URL(url), headers)
    except httpx2.InvalidURL as error:
        raise ModelError(f"{url} is not an address: {error}") from error
    try:
        yield response
    finally:
        response.close()


def _follow(client: httpx2.Client, url: httpx2.URL, headers: Mapping[str, str]) -> httpx2.Response:
    origin, at = _origin(url), url
    for _ in range(_MOST_REDIRECTS):
        mine = {k: v for k, v in headers.items() if k.lower() != "authorization" or _origin(at) == origin}
        with network_errors(at.host):
            response = client.send(client.build_request("GET", at, headers=mine), stream=True)
        if not response.has_redirect_location:
            return response
        response.close()
        target = at.join(response.headers["location"])
        if target.scheme not in ("http", "https") or (at.scheme, target.scheme) == ("https", "http"):
            raise ModelError(f"{at.host} redirects to {target.scheme}://{target.host}, which is not safe")
        at = target
    raise ModelError(f"{url.host} redirects in a circle")


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


@contextlib.contextmanager
def network_errors(host: str) -> Iterator[None]:
    """Turn what can happen on the way to `host` into HubUnreachable."""
    try:
        yield
    except httpx2.TimeoutException as error:
        raise HubUnreachable(f"{host} does not answer", "check the network, then try again") from error
    except httpx2.RequestError as error:
        why = str(error) or type(error).__name__
        raise HubUnreachable(f"cannot reach {host}: {why}", "check the network, then try again") from error


def judge(response: httpx2.Response, what: str) -> None:
    """Return if the server gave `what` (200 or 206); else raise what its refusal means."""
    status, host = response.status_code, response.request.url.host
    if status in (200, 206):
        return
    if status == 404:
        raise ModelError(f"{host} has no {what}", "check the name and its tag")
    if status in (401, 403):
        raise ModelError(
            f"{host} refuses {what} ({status})",
            "it does not exist, is private, or its terms must be accepted first",
        )
    if status in (408, 425, 429) or status >= 500:
        raise HubUnreachable(f"{host} does not serve {what} now ({status})", "try again later", _retry_after(response))
    raise ModelError(f"{host} answers {status} to {what}")


def _retry_after(response: httpx2.Response) -> float | None:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdigit() else None


def read_text(response: httpx2.Response) -> bytes:
    """The body, if it is of a reasonable size for a text. Raises ModelError, HubUnreachable."""
    host = response.request.url.host
    body = bytearray()
    with network_errors(host):
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > _LONGEST_TEXT:
                raise ModelError(f"{host} sends far too long an answer")
    return bytes(body)
