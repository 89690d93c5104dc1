from pathlib import Path

import pytest

from aistack.config.paths import find_paths
from aistack.errors import ConfigError


def test_root_uses_the_folders_of_the_system() -> None:
    paths = find_paths({"HOME": "/root", "XDG_DATA_HOME": "/elsewhere"}, 0)
    assert (paths.config, paths.data) == (Path("/etc/ai-stack"), Path("/var/lib/ai-stack"))


def test_a_user_has_the_conventional_folders_at_home() -> None:
    paths = find_paths({"HOME": "/home/ada"}, 1000)
    assert paths.config == Path("/home/ada/.config/aistack")
    assert paths.data == Path("/home/ada/.local/share/aistack")


def test_a_user_may_move_them_as_xdg_says_and_empty_means_unset() -> None:
    paths = find_paths({"HOME": "/home/ada", "XDG_CONFIG_HOME": "/c", "XDG_DATA_HOME": ""}, 1000)
    assert (paths.config, paths.data) == (Path("/c/aistack"), Path("/home/ada/.local/share/aistack"))


def test_one_variable_puts_a_whole_stack_below_one_folder_for_root_too() -> None:
    for user in (0, 1000):
        paths = find_paths({"HOME": "/home/ada", "AISTACK_HOME": "/srv/one"}, user)
        assert (paths.config, paths.data) == (Path("/srv/one/config"), Path("/srv/one/data"))


def test_a_relative_home_is_made_absolute() -> None:
    assert find_paths({"AISTACK_HOME": "here"}, 1000).data == Path.cwd() / "here/data"


def test_two_homes_share_nothing() -> None:
    one, two = (find_paths({"AISTACK_HOME": f"/srv/{name}"}, 0) for name in ("one", "two"))
    kinds = ("stack_toml", "secrets", "tls", "generated", "state", "models", "programs", "logs", "run")
    found = [getattr(paths, kind) for paths in (one, two) for kind in kinds]
    assert len(set(found)) == 2 * len(kinds)


@pytest.mark.parametrize("character", list(" \t\n;{}\"'$\\"))
def test_a_folder_whose_name_nginx_cannot_hold_is_refused(character: str) -> None:
    for variable in ("AISTACK_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        with pytest.raises(ConfigError, match="cannot lie in"):
            find_paths({"HOME": "/home/ada", variable: f"/srv/a{character}b"}, 1000)
