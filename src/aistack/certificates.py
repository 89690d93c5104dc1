"""The site's own small certificate authority: `up` asks it for a server certificate, nginx serves with it.

Four files in one folder: `root.pem` (what people trust, `aistack ca` prints it), `root.key`,
`server.pem` and `server.key`. Each key is written before its certificate and outlives it, so a
certificate is replaced alone, in one step: whatever moment `up` is killed at, key and certificate
either belong together or the next `ensure` sees that they do not and issues again.

Choices:

- ECDSA on P-256: the one curve that every browser and TLS library takes.
- The server certificate is valid for 397 days, the most that browsers take from a public authority
  (Apple's limit for private ones is 825), dated back a day for clients whose clock is behind.
- The root has a path length of 0 and no name constraints. Constraints would bind a stolen key to
  the site's names, but names and DHCP addresses change, and each change would make everybody
  trust a new root by hand. The key is readable by its owner alone, and never leaves the machine.
- The root's name ends in the start of its key's fingerprint: two roots never share a name, which
  browsers would take for a forgery, and a root made again from the same key is the same authority.
- The chain served is the server certificate alone. Clients must have the root already; sending it
  would prove nothing.
"""

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aistack.errors import UserError
from aistack.system import files

_DAY = timedelta(days=1)
_ROOT_LIFETIME = 3652 * _DAY
_ROOT_RENEWAL = 90 * _DAY
_SERVER_LIFETIME = 397 * _DAY
RENEWAL = 30 * _DAY  # what `up`, doctor and the alerts call near its end

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class _Stored:
    """What a folder holds: each None when it is missing or damaged."""

    folder: Path
    root: x509.Certificate | None
    root_key: EllipticCurvePrivateKey | None
    server: x509.Certificate | None
    server_key: EllipticCurvePrivateKey | None


def ensure(folder: Path, names: tuple[str, ...], addresses: tuple[str, ...], now: datetime) -> bool:
    """Make `folder` hold a root and a server certificate for `names` and `addresses`; `now` in UTC.

    Returns whether the root is another one, which people must trust (again).

    The server certificate is issued again when names or addresses changed, when fewer than 30 days
    remain, when it does not belong to its key or root, or when a file is damaged. The root is kept
    as long as it can serve: signed again by its own key in its last 90 days, made anew only when its
    key is lost and a server certificate must be issued. Raises UserError for a name that no
    certificate can hold, a clock that is behind, and a disk that cannot be read or written.
    """
    wanted = frozenset(_subject(name) for name in (*names, *addresses))
    now = now.replace(microsecond=0)
    stored = _read(folder)
    _refuse_clock_behind(stored, now)
    serves = _serves(stored, wanted, now)
    new_root = not serves and _renew(stored, wanted, names[0] if names else "", now)
    for key in ("root.key", "server.key"):
        if (folder / key).exists():
            files.write(folder / key, (folder / key).read_bytes(), 0o600)  # tightens what was loosened
    return new_root


def expires(path: Path) -> datetime:
    """When the first certificate in the PEM file at `path` ends, in UTC. Raises UserError."""
    certificate = _certificate(path)
    if certificate is None:
        raise UserError(f"{path} holds no certificate that can be read", "run `aistack up` to have one made")
    return certificate.not_valid_after_utc


def _read(folder: Path) -> _Stored:
    return _Stored(
        folder,
        _certificate(folder / "root.pem"),
        _key(folder / "root.key"),
        _certificate(folder / "server.pem"),
        _key(folder / "server.key"),
    )


def _refuse_clock_behind(stored: _Stored, now: datetime) -> None:
    """A machine without a battery starts in 1970: certificates made then would be void at once."""
    if stored.root and now < stored.root.not_valid_before_utc:
        made = stored.root.not_valid_before_utc
        raise UserError(
            f"the clock says {now:%Y-%m-%d %H:%M}, but the root certificate was made on {made:%Y-%m-%d}",
            f"set the clock; if it is right, remove {stored.folder} to have a new root made",
        )


def _serves(stored: _Stored, wanted: frozenset[str | _Address], now: datetime) -> bool:
    """Whether the server certificate is what `ensure` would issue, and lasts."""
    server, root, key = stored.server, stored.root, stored.server_key
    if server is None or root is None or key is None or server.public_key() != key.public_key():
        return False
    try:
        server.verify_directly_issued_by(root)
        alternative = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    held = {
        *alternative.get_values_for_type(x509.DNSName),
        *alternative.get_values_for_type(x509.IPAddress),
    }
    return held == wanted and server.not_valid_before_utc <= now <= server.not_valid_after_utc - RENEWAL


def _renew(stored: _Stored, wanted: frozenset[str | _Address], title: str, now: datetime) -> bool:
    """Issue the server certificate, and before it whatever is missing; whether the root is another one."""
    folder = stored.folder
    root_key, root = stored.root_key, stored.root
    if root_key is None or (root and root.public_key() != root_key.public_key()):
        root_key, root = _make_key(folder / "root.key"), None
    if root is None or root.not_valid_after_utc - now < _ROOT_RENEWAL:
        root = _sign_root(root_key, now)
        _write(folder / "root.pem", root)
    server_key = stored.server_key or _make_key(folder / "server.key")
    _write(folder / "server.pem", _sign_server(root, root_key, server_key, wanted, title, now))
    return root != stored.root


def _sign_root(key: EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    identity = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = _name(f"aistack private root {identity.digest.hex()[:8]}")
    usage = _usage(key_cert_sign=True, crl_sign=True)
    return (
        _builder(key, name, name, now, now - _DAY + _ROOT_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identity, critical=False)
        .sign(key, hashes.SHA256())
    )


def _sign_server(
    root: x509.Certificate,
    root_key: EllipticCurvePrivateKey,
    key: EllipticCurvePrivateKey,
    wanted: frozenset[str | _Address],
    title: str,
    now: datetime,
) -> x509.Certificate:
    end = min(now - _DAY + _SERVER_LIFETIME, root.not_valid_after_utc)
    alternative = [
        x509.DNSName(subject) if isinstance(subject, str) else x509.IPAddress(subject)
        for subject in sorted(wanted, key=str)
    ]
    identity = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    return (
        _builder(key, _name(title if 0 < len(title) <= 64 else "aistack"), root.subject, now, end)
        .add_extension(x509.SubjectAlternativeName(alternative), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identity, critical=False)
        .add_extension(authority, critical=False)
        .sign(root_key, hashes.SHA256())
    )


def _builder(
    key: EllipticCurvePrivateKey, subject: x509.Name, issuer: x509.Name, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(end)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature, key_cert_sign=key_cert_sign, crl_sign=crl_sign,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _subject(name: str) -> str | _Address:
    """A host name as certificates hold it (ASCII, small letters), or an address. Raises UserError."""
    try:
        return ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        pass
    try:
        return name.rstrip(".").encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise UserError(
            f"{name!r} cannot stand in a certificate", "set site.host_names to names people can type"
        ) from None


def _certificate(path: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(_content(path))
    except ValueError:
        return None


def _key(path: Path) -> EllipticCurvePrivateKey | None:
    try:
        key = serialization.load_pem_private_key(_content(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, EllipticCurvePrivateKey) else None


def _content(path: Path) -> bytes:
    """What `path` holds; nothing when it is missing. One that may not be read is not taken for missing."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", "run as the user who owns the stack") from error


def _make_key(path: Path) -> EllipticCurvePrivateKey:
    key = generate_private_key(SECP256R1())
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files.write(path, encoded, 0o600)
    return key


def _write(path: Path, certificate: x509.Certificate) -> None:
    files.write(path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
