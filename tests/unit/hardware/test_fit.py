from collections.abc import Callable

import pytest

from aistack.hardware.fit import MODELS, stack_memory_bytes, suggest_chat_model
from aistack.hardware.host import Cpu, Gpu, Host, OperatingSystem
from aistack.hardware.sizes import GIB, MIB

AskHost = Callable[[str], Host]


def test_the_kv_cache_of_qwen3_8b_is_the_known_144_kib_a_token() -> None:
    model = next(model for model in MODELS if "8B" in model.name)
    cache = model.memory_bytes(8192, 1) - model.weights_bytes - 512 * MIB
    assert cache == 144 * 1024 * 8192


def test_memory_grows_with_slots_times_context() -> None:
    model = MODELS[0]
    assert model.memory_bytes(8192, 4) == model.memory_bytes(32768, 1)


def test_the_table_runs_from_small_to_large() -> None:
    sizes = [model.memory_bytes(8192, 4) for model in MODELS]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize(
    ("host_name", "model"),
    [
        ("laptop", "Qwen3-1.7B"),
        ("arm-pi5", "Qwen3-0.6B"),
        ("container-v1", "Qwen3-0.6B"),
        ("nvidia-broken", "Qwen3-4B"),
        ("nvidia-24gb", "Qwen3-30B-A3B"),
        ("nvidia-two", "Qwen3-30B-A3B"),
        ("amd-rx7900", "Qwen3-30B-A3B"),
    ],
)
def test_each_host_gets_a_model_that_it_can_serve(host: AskHost, host_name: str, model: str) -> None:
    assert model in suggest_chat_model(host(host_name), engine_uses_gpu=True).model


def test_an_engine_that_cannot_use_the_gpu_gets_a_model_for_the_processor(host: AskHost) -> None:
    suggestion = suggest_chat_model(host("nvidia-24gb"), engine_uses_gpu=False)
    assert "Qwen3-4B" in suggestion.model
    assert "no GPU to use" in suggestion.why


def test_few_cores_get_a_smaller_model_however_much_memory_there_is() -> None:
    assert "Qwen3-1.7B" in suggest_chat_model(_host(2, 64 * GIB), engine_uses_gpu=True).model
    assert "Qwen3-4B" in suggest_chat_model(_host(4, 64 * GIB), engine_uses_gpu=True).model


def test_too_little_memory_is_said_with_what_to_lower() -> None:
    suggestion = suggest_chat_model(_host(2, 2 * GIB), engine_uses_gpu=True)
    assert suggestion.model == MODELS[0].name
    assert "num_parallel" in suggestion.why


def test_a_chip_that_shares_the_hosts_memory_is_sized_by_it() -> None:
    chip = Gpu("nvidia", "NVIDIA GB10", None, "580.95.05", True, "")
    assert "30B" in suggest_chat_model(_host(20, 110 * GIB, chip), engine_uses_gpu=True).model


def test_a_card_too_small_for_any_model_leaves_it_to_the_processor() -> None:
    card = Gpu("nvidia", "NVIDIA T400", 2 * GIB, "550", True, "")
    assert "no GPU to use" in suggest_chat_model(_host(8, 32 * GIB, card), engine_uses_gpu=True).why


def test_the_need_of_the_stack_follows_the_model_and_its_contexts() -> None:
    def needed(model: str, slots: int = 4, *, file_bytes: int = 0, gpu: bool = False) -> int:
        card = Gpu("nvidia", "NVIDIA L4", 24 * GIB, "550", True, "")
        return stack_memory_bytes(
            _host(8, 32 * GIB, card), model, file_bytes=file_bytes, context_length=8192, slots=slots,
            engine_uses_gpu=gpu,
        )  # fmt: skip

    large, small = MODELS[3].name, MODELS[0].name
    assert needed(small) < needed(large)
    assert needed(large, 1) == needed(large, 4) - 3 * 144 * 1024 * 8192
    assert needed("ours", file_bytes=5 * GIB) == needed("ours") + 5 * GIB
    assert needed(large, gpu=True) < needed("ours") < needed(large)


def _host(cores: int, memory: int, *gpus: Gpu) -> Host:
    cpu = Cpu("a processor", "x86_64", cores, ("avx2",))
    return Host(cpu, memory, memory, gpus, OperatingSystem("debian", "12", "Debian"), ("here",), ())
