import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from aistack.system.ports import Listener, listeners, port_owner

LISTEN = (
    "import socket, sys\n"
    "s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)\n"
    "s.bind((sys.argv[1], 0)); s.listen(); print(s.getsockname()[1], flush=True); sys.stdin.read()\n"
)
Listen = Callable[[str], tuple[int, int]]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Start a real process that listens on an address; gives its pid and port."""
    children: list[subprocess.Popen[str]] = []

    def start(address: str) -> tuple[int, int]:
        argv = [sys.executable, "-c", LISTEN, address]
        child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        children.append(child)
        assert child.stdout is not None
        return child.pid, int(child.stdout.readline())

    yield start
    for child in children:
        child.communicate()


def test_the_process_that_holds_a_port_is_named_with_its_command_and_parents(listen: Listen) -> None:
    pid, port = listen("127.0.0.1")
    owner = port_owner("127.0.0.1", port)
    assert owner is not None
    assert owner.pid == pid
    assert owner.command[-1] == "127.0.0.1"
    assert owner.ancestors[0] == os.getpid()
    assert str(owner) == f"{owner.name} (pid {pid})"


def test_a_port_that_nobody_holds_has_no_owner(listen: Listen) -> None:
    _, port = listen("127.0.0.1")
    assert port_owner("127.0.0.2", port) is None
    assert port_owner("127.0.0.1", port, among=()) is None


def test_a_real_listener_on_every_ipv6_address_takes_ipv4_along(listen: Listen) -> None:
    try:
        pid, port = listen("::")
    except ValueError:
        pytest.skip("this machine has no IPv6")
    owner = port_owner("127.0.0.1", port)
    assert owner is not None
    assert owner.pid == pid


@pytest.mark.parametrize(
    ("taken", "wanted", "collide"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "192.0.2.1", False),
        ("0.0.0.0", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("::", "0.0.0.0", True),
        ("::1", "127.0.0.1", False),
        ("::1", "::", True),
        ("0.0.0.0", "::", True),
        ("0.0.0.0", "::1", False),
        ("::ffff:127.0.0.1", "127.0.0.1", True),
        ("fe80::1%eth0", "fe80::1", True),
    ],
)
def test_addresses_collide_as_bind_has_it(taken: str, wanted: str, collide: bool) -> None:
    owner = port_owner(wanted, 80, among=(Listener(taken, 80, os.getpid()), Listener(taken, 81, 1)))
    assert (owner is not None) is collide


def test_another_users_process_holds_the_port_without_being_named() -> None:
    owner = port_owner("127.0.0.1", 80, among=(Listener("0.0.0.0", 80, None),))
    assert owner is not None
    assert (owner.pid, str(owner)) == (None, "a process of another user")


def test_a_process_that_ended_since_holds_nothing() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert port_owner("127.0.0.1", 80, among=(Listener("127.0.0.1", 80, child.pid),)) is None


def test_connections_that_do_not_listen_are_left_out(listen: Listen) -> None:
    pid, port = listen("127.0.0.1")
    assert Listener("127.0.0.1", port, pid) in listeners()
    assert all(one.port for one in listeners())
