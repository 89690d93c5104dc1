import pytest

from aistack.errors import ModelError
from aistack.models.huggingface import DEFAULT_ENDPOINT, Hub, HubFile, choose, choose_projector
from aistack.models.names import HubName


def listing(*paths: str) -> tuple[HubFile, ...]:
    return tuple(HubFile(path, 1, "0" * 64) for path in paths)


def wanted(quantization: str | None = None) -> HubName:
    return HubName("org", "repo", quantization)


@pytest.mark.parametrize(
    ("path", "quantization"),
    [
        ("Qwen3-1.7B-Q4_K_M.gguf", "Q4_K_M"),
        ("qwen3-1.7b-q8_0.gguf", "Q8_0"),
        ("Qwen3-1.7B.i1-IQ3_XXS.gguf", "IQ3_XXS"),
        ("Qwen3-1.7B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("model.Q5_K_S.gguf", "Q5_K_S"),
        ("gpt-oss-20b-MXFP4.gguf", "MXFP4"),
        ("BF16/model-BF16.gguf", "BF16"),
        ("Q6_K/model.gguf", "Q6_K"),
        ("ggml-model-f16.gguf", "F16"),
        ("tiny-model.gguf", ""),
    ],
)
def test_the_quantization_is_read_from_the_name(path: str, quantization: str) -> None:
    assert HubFile(path, 1, None).quantization == quantization


def test_without_a_wish_the_middle_way_is_taken() -> None:
    files = listing("m-F16.gguf", "m-Q2_K.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "README.md")
    assert choose(files, wanted()).path == "m-Q4_K_M.gguf"
    assert choose(listing("m-F16.gguf", "m-Q8_0.gguf"), wanted()).path == "m-Q8_0.gguf"
    assert choose(listing("m-strange.gguf"), wanted()).path == "m-strange.gguf"


@pytest.mark.parametrize("wish", ["Q8_0", "q8_0", "m-Q8_0.gguf", "m-q8_0"])
def test_a_wish_is_fulfilled_however_it_is_spelled(wish: str) -> None:
    assert choose(listing("m-Q4_K_M.gguf", "m-Q8_0.gguf"), wanted(wish)).path == "m-Q8_0.gguf"


def test_a_wish_that_is_not_there_names_what_is() -> None:
    with pytest.raises(ModelError, match="Q3_K_S is not there") as caught:
        choose(listing("m-Q4_K_M.gguf", "m-Q8_0.gguf"), wanted("Q3_K_S"))
    assert caught.value.hint == "there are: Q4_K_M, Q8_0"


def test_a_repository_without_gguf_is_refused() -> None:
    with pytest.raises(ModelError, match="has no GGUF file"):
        choose(listing("model.safetensors", "mmproj-F16.gguf", "m.imatrix.gguf"), wanted())


def test_a_model_in_parts_is_passed_over_or_refused() -> None:
    parts = listing("Q4_K_M/m-Q4_K_M-00001-of-00002.gguf", "Q4_K_M/m-Q4_K_M-00002-of-00002.gguf")
    assert choose((*parts, *listing("m-Q2_K.gguf")), wanted()).path == "m-Q2_K.gguf"
    with pytest.raises(ModelError, match="Q4_K_M comes in several parts") as caught:
        choose((*parts, *listing("m-Q2_K.gguf")), wanted("Q4_K_M"))
    assert caught.value.hint == "there are: Q2_K"
    with pytest.raises(ModelError, match="the model comes in several parts"):
        choose(parts, wanted())


def test_the_projector_is_found_and_is_never_the_model() -> None:
    files = listing("mmproj-F32.gguf", "mmproj-model-f16.gguf", "m-Q4_K_M.gguf")
    projector = choose_projector(files)
    assert projector is not None
    assert projector.path == "mmproj-model-f16.gguf"
    assert choose(files, wanted()).path == "m-Q4_K_M.gguf"
    assert choose_projector(listing("m-Q4_K_M.gguf")) is None


def test_the_hub_comes_from_the_environment() -> None:
    assert Hub.from_environment({}) == Hub(DEFAULT_ENDPOINT, None)
    given = {"HF_ENDPOINT": "https://mirror.example/", "HF_TOKEN": "hf_1"}
    assert Hub.from_environment(given) == Hub("https://mirror.example", "hf_1")
    assert Hub.from_environment({"HF_TOKEN": "", "HF_ENDPOINT": ""}) == Hub(DEFAULT_ENDPOINT, None)
