import os
import signal
import ssl
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from aistack.certificates import ensure, expires
from aistack.errors import UserError
from aistack.system.run import run

NOW = datetime.now(UTC)
NAMES = ("ai.example.org", "localhost")
ADDRESSES = ("192.0.2.7", "127.0.0.1", "::1")
DAY = timedelta(days=1)
FILES = ("root.key", "root.pem", "server.key", "server.pem")


@dataclass(frozen=True)
class Made:
    """A folder after `ensure`: whether the root is another one, and whether the server certificate is."""

    folder: Path
    new_root: bool = False
    renewed: bool = False

    @property
    def ca(self) -> Path:
        return self.folder / "root.pem"

    @property
    def certificate(self) -> Path:
        return self.folder / "server.pem"

    @property
    def key(self) -> Path:
        return self.folder / "server.key"

    @property
    def end(self) -> datetime:
        return expires(self.certificate)


def make(folder: Path, now: datetime = NOW, names: tuple[str, ...] = NAMES) -> Made:
    certificate = folder / "server.pem"
    before = certificate.read_bytes() if certificate.exists() else b""
    new_root = ensure(folder, names, ADDRESSES, now)
    return Made(folder, new_root, certificate.read_bytes() != before)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def openssl_verifies(made: Made, *expected: str, at: datetime = NOW, root: Path | None = None) -> bool:
    when = str(int(at.timestamp()))
    argv = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-attime", when, "-CAfile"]
    return run([*argv, str(root or made.ca), *expected, str(made.certificate)]).status == 0


def test_openssl_verifies_each_name_and_address_and_no_other(tmp_path: Path) -> None:
    made = make(tmp_path)
    for name in NAMES:
        assert openssl_verifies(made, "-verify_hostname", name)
    for address in ADDRESSES:
        assert openssl_verifies(made, "-verify_ip", address)
    assert not openssl_verifies(made, "-verify_hostname", "other.example.org")
    assert not openssl_verifies(made, "-verify_ip", "192.0.2.8")


@pytest.mark.parametrize("name", [*NAMES, "192.0.2.7", "::1"])
def test_a_strict_python_client_that_trusts_the_root_shakes_hands(tmp_path: Path, name: str) -> None:
    shake_hands(make(tmp_path), name)


def test_a_client_without_the_root_refuses(tmp_path: Path) -> None:
    made = make(tmp_path / "ours")
    other = make(tmp_path / "other")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(made, "localhost", trusted=other.ca)


def test_the_server_certificate_is_one_that_browsers_take(tmp_path: Path) -> None:
    certificate = x509.load_pem_x509_certificate(make(tmp_path).certificate.read_bytes())
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc <= 397 * DAY
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_the_root_lasts_ten_years_and_signs_no_further_authority(tmp_path: Path) -> None:
    root = x509.load_pem_x509_certificate(make(tmp_path).ca.read_bytes())
    assert root.not_valid_after_utc - NOW > 3650 * DAY
    assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    first = make(tmp_path)
    before = contents(tmp_path)
    second = make(tmp_path)
    assert (first.renewed, first.new_root) == (True, True)
    assert (second.renewed, second.new_root) == (False, False)
    assert contents(tmp_path) == before


def test_the_order_of_names_does_not_matter(tmp_path: Path) -> None:
    make(tmp_path)
    before = contents(tmp_path)
    ensure(tmp_path, NAMES[::-1], ADDRESSES[::-1], NOW)
    assert contents(tmp_path) == before


def test_other_names_renew_the_server_certificate_and_keep_root_and_keys(tmp_path: Path) -> None:
    make(tmp_path)
    before = contents(tmp_path)
    made = make(tmp_path, names=("new.example.org",))
    assert (made.renewed, made.new_root) == (True, False)
    assert openssl_verifies(made, "-verify_hostname", "new.example.org")
    assert not openssl_verifies(made, "-verify_hostname", NAMES[0])
    after = contents(tmp_path)
    assert {name for name in FILES if before[name] != after[name]} == {"server.pem"}


def test_an_address_among_the_names_is_held_as_an_address(tmp_path: Path) -> None:
    made = make(tmp_path, names=("198.51.100.3", "ai.example.org"))
    assert openssl_verifies(made, "-verify_ip", "198.51.100.3")


def test_it_is_renewed_when_fewer_than_thirty_days_remain(tmp_path: Path) -> None:
    end = make(tmp_path).end
    assert not make(tmp_path, end - 31 * DAY).renewed
    late = make(tmp_path, end - 29 * DAY)
    assert late.renewed
    assert not late.new_root
    assert late.end > end + 360 * DAY


def test_years_later_the_root_is_signed_again_by_its_own_key(tmp_path: Path) -> None:
    make(tmp_path)
    before = contents(tmp_path)
    late = NOW + 3600 * DAY
    made = make(tmp_path, late)
    assert made.new_root
    after = contents(tmp_path)
    assert before["root.key"] == after["root.key"]
    assert openssl_verifies(made, at=late)
    (tmp_path / "old.pem").write_bytes(before["root.pem"])
    assert openssl_verifies(made, at=late, root=tmp_path / "old.pem")


def test_no_server_certificate_outlives_its_root(tmp_path: Path) -> None:
    make(tmp_path)
    made = make(tmp_path, NOW + 3500 * DAY)
    assert not made.new_root
    assert made.end == expires(made.ca)


@pytest.mark.parametrize("damage", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
@pytest.mark.parametrize("name", ["root.pem", "server.key", "server.pem"])
def test_a_damaged_file_is_mended_without_a_new_authority(tmp_path: Path, name: str, damage: bytes) -> None:
    make(tmp_path)
    authority = (tmp_path / "root.key").read_bytes()
    (tmp_path / name).write_bytes(damage)
    made = make(tmp_path)
    assert made.renewed
    assert (tmp_path / "root.key").read_bytes() == authority
    shake_hands(made, "localhost")
    assert not make(tmp_path).renewed


def test_a_lost_root_key_is_only_replaced_when_something_must_be_issued(tmp_path: Path) -> None:
    end = make(tmp_path).end
    (tmp_path / "root.key").unlink()
    assert not make(tmp_path).renewed
    late = make(tmp_path, end - DAY)
    assert late.new_root
    assert openssl_verifies(late, at=end - DAY)


def test_a_key_from_elsewhere_is_used_with_a_new_certificate(tmp_path: Path) -> None:
    make(tmp_path / "other")
    made = make(tmp_path / "ours")
    made.key.write_bytes((tmp_path / "other/server.key").read_bytes())
    assert make(tmp_path / "ours").renewed
    shake_hands(made, "localhost")


def test_a_root_from_elsewhere_does_not_pass_for_ours(tmp_path: Path) -> None:
    make(tmp_path / "other")
    made = make(tmp_path / "ours")
    made.ca.write_bytes((tmp_path / "other/root.pem").read_bytes())
    again = make(tmp_path / "ours")
    assert again.new_root
    shake_hands(again, "localhost")


def test_keys_are_for_their_owner_alone_and_are_closed_again(tmp_path: Path) -> None:
    made = make(tmp_path)
    for name in ("root.key", "server.key"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
        (tmp_path / name).chmod(0o644)
    make(tmp_path)
    for name in ("root.key", "server.key"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    assert made.ca.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("written", range(len(FILES) + 1))
def test_a_first_start_cut_off_between_two_files_is_finished_by_the_next(tmp_path: Path, written: int) -> None:
    make(tmp_path)
    for name in FILES[written:]:
        (tmp_path / name).unlink()
    made = make(tmp_path)
    assert made.renewed is (written < len(FILES))
    shake_hands(made, "localhost")


def test_killed_at_any_moment_key_and_certificate_still_serve(tmp_path: Path) -> None:
    make(tmp_path)
    loop = (
        "import sys, itertools; from pathlib import Path; from datetime import datetime, UTC\n"
        "from aistack.certificates import ensure\n"
        "for turn in itertools.count():\n"
        "    ensure(Path(sys.argv[1]), (f'n{turn}', 'localhost'), (), datetime.now(UTC))\n"
        "    print(turn, flush=True)\n"
    )
    for turns in (1, 3, 8):
        child = subprocess.Popen([sys.executable, "-c", loop, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for _ in range(turns):
            child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        shake_hands(Made(tmp_path), "localhost")
    assert make(tmp_path).renewed


def test_a_clock_before_the_root_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    make(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(UserError, match="the clock says 1970-01-01"):
        make(tmp_path, datetime(1970, 1, 1, tzinfo=UTC))
    assert contents(tmp_path) == before


def test_names_beyond_ascii_are_held_as_dns_spells_them(tmp_path: Path) -> None:
    made = make(tmp_path, names=("Büro.example.org.",))
    assert openssl_verifies(made, "-verify_hostname", "xn--bro-hoa.example.org")
    assert not make(tmp_path, names=("büro.example.org",)).renewed


def test_a_name_that_no_certificate_can_hold_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'a\.\.b' cannot stand in a certificate"):
        make(tmp_path, names=("a..b",))


def test_the_end_of_a_file_without_a_certificate_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "server.pem").write_text("nothing")
    with pytest.raises(UserError) as caught:
        expires(tmp_path / "server.pem")
    assert "aistack up" in caught.value.hint


def shake_hands(made: Made, name: str, trusted: Path | None = None) -> None:
    """A whole TLS handshake between a strict client and a server with `made`, in memory."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(made.certificate, made.key)
    client = ssl.create_default_context(cafile=str(trusted or made.ca))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(6):
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                pass
    assert not ends
