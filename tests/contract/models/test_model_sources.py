"""Every source of models, against servers that speak its protocol: what comes is whole, once, and right."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import namedtuple
from dataclasses import replace

import pytest

from aistack.errors import ModelError
from aistack.models.errors import HubUnreachable
from aistack.models.huggingface import Hub
from aistack.models.progress import Progress
from aistack.models.pull import Pulled, Surroundings, pull
from aistack.models.store import ModelStore
from aistack.models.transfer import Patience
from hubs import Hubs

Usage = namedtuple("Usage", ["free"])
CHILD = """
import sys
from pathlib import Path
from aistack.models.pull import pull
from aistack.models.store import ModelStore
pull(ModelStore(Path(sys.argv[1])), sys.argv[2])
"""


def leftovers(store: ModelStore) -> list[str]:
    """What lies in the store that is no model: nothing, after a pull that went well."""
    partial = store.root / ".partial"
    return sorted(path.name for path in partial.iterdir()) if partial.exists() else []


@pytest.fixture(params=["registry", "hub"])
def offered(request: pytest.FixtureRequest, hubs: Hubs, gguf_bytes: bytes) -> tuple[str, str]:
    """The same model from either kind of hub: its name, and the path that its bytes come from."""
    if request.param == "registry":
        path = hubs.add_registry_model("tiny", gguf_bytes, template=b"{{ .Prompt }}", license=b"free")
        return f"http://{hubs.host}/library/tiny", path
    hubs.add_repository("org/tiny-GGUF", {"tiny-Q4_K_M.gguf": gguf_bytes, "README.md": b"hello"})
    return "hf.co/org/tiny-GGUF", hubs.redirects[f"/org/tiny-GGUF/resolve/{'c' * 40}/tiny-Q4_K_M.gguf"]


def test_a_model_comes_in_whole_and_its_progress_is_told(
    offered: tuple[str, str], store: ModelStore, surroundings: Surroundings, gguf_bytes: bytes
) -> None:
    told: list[Progress] = []
    result = pull(store, offered[0], told.append, surroundings)
    assert result.changed
    assert result.model.path.read_bytes() == gguf_bytes
    assert result.model.digest is not None
    assert store.list() == (result.model,)
    assert leftovers(store) == []
    assert told[0].step == "looking"
    assert told[-1].step == "installing"
    moving = [progress.done for progress in told if progress.step == "downloading"]
    assert moving == sorted(moving)
    assert moving[-1] == len(gguf_bytes)
    assert {progress.total for progress in told[1:]} == {len(gguf_bytes)}


def test_a_second_pull_fetches_nothing(
    offered: tuple[str, str], hubs: Hubs, store: ModelStore, surroundings: Surroundings
) -> None:
    first = pull(store, offered[0], surroundings=surroundings)
    served = hubs.served
    second = pull(store, offered[0], surroundings=surroundings)
    assert (second.changed, second.model) == (False, first.model)
    assert hubs.served == served


def test_a_connection_that_breaks_is_taken_up_where_it_broke(
    offered: tuple[str, str], hubs: Hubs, store: ModelStore, surroundings: Surroundings, gguf_bytes: bytes
) -> None:
    hubs.faults[offered[1]] = ["cut:1000000", 503, "cut:500000", 429, "cut:300000"]
    result = pull(store, offered[0], surroundings=surroundings)
    assert result.model.path.read_bytes() == gguf_bytes
    ranges = [headers.get("range", "") for headers in hubs.asked(offered[1])]
    assert len(ranges) == 6
    starts = [int(text.removeprefix("bytes=").removesuffix("-") or 0) for text in ranges]
    assert starts == sorted(starts)
    # At most what was in the receiving buffer at each break came twice.
    assert hubs.served - len(gguf_bytes) <= 3 * 256 * 1024


def test_a_server_that_wants_time_is_given_it(
    offered: tuple[str, str], hubs: Hubs, store: ModelStore, surroundings: Surroundings
) -> None:
    pauses: list[float] = []
    hubs.faults[offered[1]] = [429, 503, 503]
    patient = replace(surroundings, patience=Patience(first_delay_s=0.25, sleep=pauses.append))
    assert pull(store, offered[0], surroundings=patient).changed
    assert pauses == [1.0, 0.5, 1.0]


def test_a_silent_server_is_given_up_and_asked_again(
    offered: tuple[str, str], hubs: Hubs, store: ModelStore, surroundings: Surroundings, gguf_bytes: bytes
) -> None:
    hubs.faults[offered[1]] = ["stall:1000000"]
    impatient = replace(surroundings, silence_s=0.3)
    assert pull(store, offered[0], surroundings=impatient).model.path.read_bytes() == gguf_bytes
    assert len(hubs.asked(offered[1])) == 2


def test_a_line_that_keeps_breaking_ends_and_keeps_what_came(
    offered: tuple[str, str], hubs: Hubs, store: ModelStore, surroundings: Surroundings, gguf_bytes: bytes
) -> None:
    hubs.faults[offered[1]] = ["cut:1000000", *[500] * 10]
    with pytest.raises(HubUnreachable, match=r"broke at \d+ of \d+ bytes") as caught:
        pull(store, offered[0], surroundings=surroundings)
    assert "goes on from there" in caught.value.hint
    assert store.list() == ()
    hubs.faults.clear()
    served = hubs.served
    assert pull(store, offered[0], surroundings=surroundings).changed
    assert hubs.served - served < len(gguf_bytes) - 500_000


def test_a_server_that_ignores_where_to_go_on_is_understood(
    offered: tuple[str, str], hubs: Hubs, store: ModelStore, surroundings: Surroundings, gguf_bytes: bytes
) -> None:
    hubs.faults[offered[1]] = ["cut:1000000", "no-range"]
    assert pull(store, offered[0], surroundings=surroundings).model.path.read_bytes() == gguf_bytes


def test_wrong_content_is_refused_and_not_kept(
    offered: tuple[str, str], hubs: Hubs, store: ModelStore, surroundings: Surroundings, gguf_bytes: bytes
) -> None:
    hubs.contents[offered[1]] = gguf_bytes[:-1] + b"?"
    with pytest.raises(ModelError, match="not what it promised") as caught:
        pull(store, offered[0], surroundings=surroundings)
    assert not isinstance(caught.value, HubUnreachable)
    assert store.list() == ()
    hubs.contents[offered[1]] = gguf_bytes
    assert pull(store, offered[0], surroundings=surroundings).changed


def test_a_part_that_went_bad_on_our_disk_is_fetched_anew(
    offered: tuple[str, str], hubs: Hubs, store: ModelStore, surroundings: Surroundings, gguf_bytes: bytes
) -> None:
    hubs.faults[offered[1]] = ["cut:1000000", *[500] * 10]
    with pytest.raises(HubUnreachable):
        pull(store, offered[0], surroundings=surroundings)
    hubs.faults.clear()
    (part,) = (store.root / ".partial").glob("*.part")
    part.write_bytes(b"\0" * part.stat().st_size)
    assert pull(store, offered[0], surroundings=surroundings).model.path.read_bytes() == gguf_bytes


def test_more_than_was_promised_is_not_written(
    offered: tuple[str, str], hubs: Hubs, store: ModelStore, surroundings: Surroundings
) -> None:
    hubs.faults[offered[1]] = ["extra"]
    with pytest.raises(ModelError, match="sends more than"):
        pull(store, offered[0], surroundings=surroundings)
    assert store.list() == ()


def test_a_disk_too_small_is_told_before_anything_is_fetched(
    offered: tuple[str, str], hubs: Hubs, store: ModelStore, surroundings: Surroundings, gguf_bytes: bytes
) -> None:
    small = replace(surroundings, measure_disk=lambda path: Usage(free=1_000_000))
    with pytest.raises(ModelError, match=rf"{len(gguf_bytes)} bytes .* 1000000 bytes"):
        pull(store, offered[0], surroundings=small)
    assert hubs.asked(offered[1]) == []


def test_a_file_that_is_no_model_is_refused_and_not_kept(
    hubs: Hubs, store: ModelStore, surroundings: Surroundings
) -> None:
    hubs.add_registry_model("page", b"<!doctype html>" * 100)
    with pytest.raises(ModelError, match="not a GGUF file"):
        pull(store, f"{hubs.host}/library/page", surroundings=surroundings)
    assert (store.list(), leftovers(store)) == ((), [])


@pytest.mark.parametrize(
    ("status", "unreachable"),
    [(404, False), (401, False), (403, False), (429, True), (500, True), (503, True)],
)
@pytest.mark.parametrize("kind", ["registry", "hub"])
def test_away_and_not_there_are_told_apart(
    hubs: Hubs, store: ModelStore, surroundings: Surroundings, kind: str, status: int, unreachable: bool
) -> None:
    name = f"{hubs.host}/library/m" if kind == "registry" else "hf.co/org/m"
    path = "/v2/library/m/manifests/latest" if kind == "registry" else "/api/models/org/m"
    hubs.faults[path] = [status]
    with pytest.raises(ModelError) as caught:
        pull(store, name, surroundings=surroundings)
    assert isinstance(caught.value, HubUnreachable) is unreachable
    assert len(hubs.asked(path)) == 1
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["registry", "hub"])
def test_a_page_in_place_of_the_hub_means_that_it_cannot_be_reached(
    hubs: Hubs, store: ModelStore, surroundings: Surroundings, kind: str
) -> None:
    hubs.texts["/v2/library/m/manifests/latest"] = hubs.texts["/api/models/org/m"] = b"<html>Sign in</html>"
    name = f"{hubs.host}/library/m" if kind == "registry" else "hf.co/org/m"
    with pytest.raises(HubUnreachable, match="does not answer like a"):
        pull(store, name, surroundings=surroundings)


@pytest.mark.parametrize("kind", ["registry", "hub"])
def test_no_network_is_told_at_once(store: ModelStore, kind: str) -> None:
    with socket.socket() as closed:  # bound and not listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{closed.getsockname()[1]}"
        name = f"{host}/library/m" if kind == "registry" else "hf.co/org/m"
        start = time.monotonic()
        with pytest.raises(HubUnreachable, match="cannot reach"):
            pull(store, name, surroundings=Surroundings(hub=Hub(f"http://{host}")))
        assert time.monotonic() - start < 5
    assert store.list() == ()


def test_a_name_that_nothing_answers_to_means_that_the_hub_cannot_be_reached(store: ModelStore) -> None:
    with pytest.raises(HubUnreachable):
        pull(store, "registry.invalid/ns/model", surroundings=Surroundings(connect_s=5))


def test_killed_at_any_moment_the_next_pull_goes_on(
    offered: tuple[str, str], hubs: Hubs, store: ModelStore, surroundings: Surroundings, gguf_bytes: bytes
) -> None:
    hubs.faults[offered[1]] = ["stall:3000000"]
    environment = {**os.environ, "HF_ENDPOINT": f"http://{hubs.host}"}
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(store.root), offered[0]], env=environment)
    try:
        until = time.monotonic() + 30
        while not (size := part_size(store)) > 2_000_000:
            assert child.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert store.list() == ()
    size = part_size(store)
    served = hubs.served
    assert pull(store, offered[0], surroundings=surroundings).model.path.read_bytes() == gguf_bytes
    assert hubs.served - served == len(gguf_bytes) - size
    assert leftovers(store) == []


def part_size(store: ModelStore) -> int:
    parts = list((store.root / ".partial").glob("*.part"))
    return parts[0].stat().st_size if parts else 0


def test_two_pulls_of_one_model_fetch_it_once(
    offered: tuple[str, str], hubs: Hubs, store: ModelStore, surroundings: Surroundings, gguf_bytes: bytes
) -> None:
    results: list[Pulled] = []
    told: list[Progress] = []

    def work() -> None:
        results.append(pull(ModelStore(store.root), offered[0], told.append, surroundings))

    hubs.faults[offered[1]] = ["stall:1000000"]
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 30
    while not any(progress.step == "waiting" for progress in list(told)):
        assert time.monotonic() < until
        time.sleep(0.01)
    hubs.released.set()
    for thread in threads:
        thread.join(60)
    assert sorted(result.changed for result in results) == [False, False, True]
    assert store.get(offered[0]).path.read_bytes() == gguf_bytes
    assert hubs.served <= len(gguf_bytes) + 256 * 1024
    assert leftovers(store) == []


def test_a_new_version_replaces_the_old_one(
    hubs: Hubs, store: ModelStore, surroundings: Surroundings, gguf_bytes: bytes
) -> None:
    name = f"{hubs.host}/library/tiny"
    hubs.add_registry_model("tiny", gguf_bytes)
    old = pull(store, name, surroundings=surroundings).model
    hubs.add_registry_model("tiny", gguf_bytes + b"newer")
    new = pull(store, name, surroundings=surroundings)
    assert new.changed
    assert new.model.digest != old.digest
    assert store.list() == (new.model,)


@pytest.mark.parametrize(
    "layer",
    [
        {"digest": "sha256:../../../../etc/passwd", "size": 1},
        {"digest": "sha256:" + "A" * 64, "size": 1},
        {"digest": "md5:" + "a" * 32, "size": 1},
        {"digest": 7, "size": 1},
        {"digest": "sha256:" + "a" * 64, "size": -1},
        {"digest": "sha256:" + "a" * 64, "size": 1 << 60},
        {"digest": "sha256:" + "a" * 64, "size": "1"},
        {"digest": "sha256:" + "a" * 64},
    ],
)
def test_a_manifest_with_impossible_layers_is_refused(
    hubs: Hubs, store: ModelStore, surroundings: Surroundings, layer: dict[str, object]
) -> None:
    layers = [{"mediaType": "application/vnd.ollama.image.model", **layer}]
    hubs.texts["/v2/library/m/manifests/latest"] = json.dumps({"layers": layers}).encode()
    with pytest.raises(ModelError, match="no usable manifest"):
        pull(store, f"{hubs.host}/library/m", surroundings=surroundings)
    assert not (store.root / ".partial").exists()


@pytest.mark.parametrize("manifest", [b"[]", b"{}", b"null", b'{"layers": 3}', b'{"layers": [3]}'])
def test_a_manifest_that_is_none_is_refused(
    hubs: Hubs, store: ModelStore, surroundings: Surroundings, manifest: bytes
) -> None:
    hubs.texts["/v2/library/m/manifests/latest"] = manifest
    with pytest.raises(ModelError, match="no usable manifest"):
        pull(store, f"{hubs.host}/library/m", surroundings=surroundings)


def test_an_endless_manifest_is_not_read(hubs: Hubs, store: ModelStore, surroundings: Surroundings) -> None:
    hubs.texts["/v2/library/m/manifests/latest"] = b" " * (5 << 20)
    with pytest.raises(ModelError, match="far too long"):
        pull(store, f"{hubs.host}/library/m", surroundings=surroundings)


def test_adapters_and_other_formats_are_refused(
    hubs: Hubs, store: ModelStore, surroundings: Surroundings, gguf_bytes: bytes
) -> None:
    hubs.add_registry_model("adapted", gguf_bytes, adapter=b"a")
    with pytest.raises(ModelError, match="adapter"):
        pull(store, f"{hubs.host}/library/adapted", surroundings=surroundings)
    hubs.texts["/v2/library/m/manifests/latest"] = b'{"layers": []}'
    with pytest.raises(ModelError, match="not one GGUF file"):
        pull(store, f"{hubs.host}/library/m", surroundings=surroundings)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1"])
def test_redirects_lead_only_to_http(
    offered: tuple[str, str], hubs: Hubs, store: ModelStore, surroundings: Surroundings, target: str
) -> None:
    del hubs.contents[offered[1]]
    hubs.redirects[offered[1]] = target
    with pytest.raises(ModelError, match="not safe"):
        pull(store, offered[0], surroundings=surroundings)


def test_a_circle_of_redirects_ends(
    offered: tuple[str, str], hubs: Hubs, store: ModelStore, surroundings: Surroundings
) -> None:
    hubs.redirects[offered[1]] = offered[1]
    with pytest.raises(ModelError, match="in a circle"):
        pull(store, offered[0], surroundings=surroundings)


def test_the_token_goes_to_the_hub_and_to_nobody_else(
    hubs: Hubs, store: ModelStore, surroundings: Surroundings, gguf_bytes: bytes
) -> None:
    hubs.add_repository("org/tiny-GGUF", {"tiny-Q4_K_M.gguf": gguf_bytes})
    resolve = f"/org/tiny-GGUF/resolve/{'c' * 40}/tiny-Q4_K_M.gguf"
    cdn = hubs.redirects[resolve]
    hubs.redirects[resolve] = f"http://localhost:{hubs.host.partition(':')[2]}{cdn}"  # another host by name
    with_token = replace(surroundings, hub=Hub(f"http://{hubs.host}", "hf_secret"))
    pull(store, "hf.co/org/tiny-GGUF", surroundings=with_token)
    assert hubs.asked("/api/models/org/tiny-GGUF")[0]["authorization"] == "Bearer hf_secret"
    assert hubs.asked(resolve)[0]["authorization"] == "Bearer hf_secret"
    assert "authorization" not in hubs.asked(cdn)[0]


def test_no_token_is_sent_when_none_is_given(
    hubs: Hubs, store: ModelStore, surroundings: Surroundings, gguf_bytes: bytes
) -> None:
    hubs.add_repository("org/tiny-GGUF", {"tiny-Q4_K_M.gguf": gguf_bytes})
    pull(store, "hf.co/org/tiny-GGUF", surroundings=surroundings)
    assert [path for path, headers in hubs.requests if "authorization" in headers] == []


def test_a_projector_comes_with_its_model(
    hubs: Hubs, store: ModelStore, surroundings: Surroundings, gguf_bytes: bytes
) -> None:
    eye = gguf_bytes + b"eye"
    hubs.add_repository("org/sees-GGUF", {"m-Q8_0.gguf": gguf_bytes, "mmproj-F16.gguf": eye})
    model = pull(store, "hf.co/org/sees-GGUF:Q8_0", surroundings=surroundings).model
    assert model.name == "hf.co/org/sees-GGUF:Q8_0"
    assert model.projector is not None
    assert model.projector.read_bytes() == eye
    hubs.add_registry_model("sees", gguf_bytes, projector=eye)
    told: list[Progress] = []
    model = pull(store, f"{hubs.host}/library/sees", told.append, surroundings).model
    assert model.projector is not None
    assert told[-1].total == len(gguf_bytes) + len(eye)


def test_a_small_file_without_a_digest_is_known_by_its_revision(
    hubs: Hubs, store: ModelStore, surroundings: Surroundings, gguf_bytes: bytes
) -> None:
    hubs.add_repository("org/small-GGUF", {"small-F32.gguf": gguf_bytes}, large=False)
    first = pull(store, "hf.co/org/small-GGUF", surroundings=surroundings)
    assert first.model.digest is not None
    assert first.model.digest.startswith("sha256:")
    assert not pull(store, "hf.co/org/small-GGUF", surroundings=surroundings).changed
