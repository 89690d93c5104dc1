"""What is installed is pinned to the last package: what scripts/lock writes belongs to what it is made from."""

import re
import tomllib
from pathlib import Path

import pytest

from aistack.components.base import locked
from aistack.components.chat.component import VERSION as OPEN_WEBUI
from aistack.components.chromadb.component import VERSION as CHROMA

ROOT = Path(__file__).parents[2]
WHERE = {"chat": ("open-webui", OPEN_WEBUI), "chromadb": ("chromadb", CHROMA)}


def names(requirements: tuple[str, ...]) -> set[str]:
    return {requirement.partition("==")[0] for requirement in requirements}


@pytest.mark.parametrize("component", WHERE)
def test_a_component_is_locked_in_the_version_that_it_says(component: str) -> None:
    package, version = WHERE[component]
    assert f"{package}=={version}" in locked(component)


@pytest.mark.parametrize("component", WHERE)
def test_each_line_is_one_exact_version_from_whatever_index_the_site_has(component: str) -> None:
    assert [line for line in locked(component) if not re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; [^/]+)?", line)] == []


def test_the_chat_stands_on_no_package_that_computes_embeddings_itself() -> None:
    assert names(locked("chat")) & {"torch", "sentence-transformers"} == set()
    assert {"fastapi", "chromadb"} <= names(locked("chat"))


def test_the_chat_speaks_to_chroma_in_the_version_of_its_server() -> None:
    assert f"chromadb=={CHROMA}" in locked("chat")


def test_our_own_lock_has_every_dependency_in_its_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {*project["dependencies"], *project["optional-dependencies"]["dev"]}
    assert wanted <= set((ROOT / "requirements.lock").read_text().splitlines())
