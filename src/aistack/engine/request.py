"""One HTTP request as the engine sees it, built piece by piece from what the parser reports."""

from dataclasses import dataclass, field
from ipaddress import ip_address

from aistack.engine.answers import ApiError

HEAD_LIMIT = 64 << 10  # bytes of request line and headers


@dataclass(slots=True)
class Request:
    """A request; `headers` has lower-case names. Whole once the parser said so."""

    body_limit: int
    method: str = ""
    target: bytes = b""
    version: str = "1.1"
    keep_alive: bool = True
    headers: dict[bytes, bytes] = field(default_factory=dict)
    head_size: int = 0
    body: bytearray = field(default_factory=bytearray)

    @property
    def path(self) -> str:
        """The path as it was sent, without the query."""
        return self.target.partition(b"?")[0].decode("latin-1")

    def add_target(self, piece: bytes) -> None:
        """Add to the request line. Raises ApiError (431)."""
        self.target += piece
        self._count_head(len(piece))

    def add_header(self, name: bytes, value: bytes) -> None:
        """Add a header. Raises ApiError (431)."""
        self._count_head(len(name) + len(value) + 4)
        self.headers[name.lower()] = value

    def add_body(self, piece: bytes) -> None:
        """Add to the body. Raises ApiError (413)."""
        self.body += piece
        self._check_size(len(self.body))

    def check_head(self, *, loopback: bool) -> None:
        """Raise ApiError for a head that no client of ours sends.

        With `loopback` the Host header must be this machine's: a web page that somebody on this machine
        looks at can point its own host name here, and would else be able to talk to the engine.
        """
        length = self.headers.get(b"content-length", b"0")
        if length.isdigit() and len(length) < 20:
            self._check_size(int(length))
        if b"origin" in self.headers:
            raise ApiError(403, "web pages may not talk to the engine", "permission_error")
        if loopback and not _names_this_machine(self.headers.get(b"host", b"")):
            raise ApiError(403, "the Host header does not name this machine", "permission_error")

    def _check_size(self, size: int) -> None:
        if size > self.body_limit:
            raise ApiError(413, f"the body is larger than {self.body_limit >> 20} MB")

    def _count_head(self, size: int) -> None:
        self.head_size += size
        if self.head_size > HEAD_LIMIT:
            raise ApiError(431, f"the headers are larger than {HEAD_LIMIT >> 10} KB")


def _names_this_machine(host: bytes) -> bool:
    name = host.decode("latin-1").strip().lower()
    bare = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    if bare in ("", "localhost") or bare.endswith(".localhost"):
        return True
    try:
        ip_address(bare)  # a name can be pointed anywhere, an address only where it is
    except ValueError:
        return False
    return True
