"""Downloads: the unmodified client, in a process of its own, against a Hub on a loopback port."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from lottery_hub.networks.backbones import layout
from tests import warm
from tests.hub.faults import Fault
from tests.hub.server import Hub

KEY = "models/org/net"

WEIGHTS = b"the weights of a small network" * 50
BODY = "GET /org/net/resolve"
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()

CALLS = """
import json, sys
from lottery_hub.errors import LotteryHubError
for call, args, kwargs in json.loads(sys.argv[1]):
    try:
        if call == "load_dataset":
            from lottery_hub.images import datasets  # slow: it imports torch
            print(json.dumps(datasets.load_dataset(*args, **kwargs).describe()))
        elif call == "load_backbone":
            from lottery_hub.sharing import sources
            loaded = sources.load_backbone(*args, **kwargs)
            print(json.dumps({"provenance": loaded.provenance, "mean": loaded.mean}))
        else:
            from lottery_hub.fetching import downloads
            path, sha = getattr(downloads, call)(*args, **kwargs)
            print(json.dumps({"path": str(path), "sha": sha}))
    except LotteryHubError as e:
        print(json.dumps({"error": str(e), "kind": type(e).__name__}))
"""


@dataclass
class Client:
    """Calls a function of the library in a new process that talks to `hub` and keeps its cache in `home`."""

    hub: Hub
    home: Path

    def __call__(self, call: str, *args: object, env: dict[str, str] | None = None, **kwargs: object) -> dict[str, Any]:
        return self.all((call, args, kwargs), env=env)[0]

    def all(
        self, *calls: tuple[str, tuple[object, ...], dict[str, object]], env: dict[str, str] | None = None
    ) -> list[dict[str, Any]]:
        environment = self.hub.environment(self.home, **(env or {}))
        done = warm.run("-c", CALLS, json.dumps(calls), env=environment, timeout=100)
        assert done.returncode == 0, done.stderr
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(answers) == len(calls)
        assert not any("\n" in answer.get("error", "") for answer in answers)
        return answers

    def offline(self, call: str, *args: object, **kwargs: object) -> dict[str, Any]:
        return self(call, *args, env={"HF_HUB_OFFLINE": "1"}, **kwargs)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(tmp_path / "hub") as served:
        served.store.commit(KEY, {"w.safetensors": b"an older version"})
        served.store.commit(KEY, {"w.safetensors": WEIGHTS, "config.json": b"{}", "sub/notes.txt": b"notes"})
        yield served


@pytest.fixture
def client(hub: Hub, tmp_path: Path) -> Client:
    return Client(hub, tmp_path / "home")


def test_a_file_arrives_with_the_commit_it_belongs_to(client: Client) -> None:
    got = client("fetch_file", "org/net", "w.safetensors", sha256=SHA256)
    assert Path(got["path"]).read_bytes() == WEIGHTS
    assert got["sha"] == client.hub.store.head(KEY)


def test_a_pinned_commit_is_fetched_without_asking_what_main_is(client: Client) -> None:
    older = client.hub.store.commits(KEY)[1]
    got = client("fetch_file", "org/net", "w.safetensors", revision=older)
    assert Path(got["path"]).read_bytes() == b"an older version"
    assert got["sha"] == older
    asked = [request for request in client.hub.requests if request.startswith("GET /api/")]
    assert asked == [f"GET /api/models/org/net/revision/{older}"]
    client.hub.requests.clear()
    assert client("fetch_file", "org/net", "w.safetensors", revision=older) == got
    assert not client.hub.requests


@pytest.mark.parametrize("expected", [SHA256, None], ids=["by the caller's checksum", "by the Hub's checksum"])
def test_a_flipped_bit_is_noticed_and_the_file_fetched_again(client: Client, expected: str | None) -> None:
    client.hub.faults.add(Fault(BODY, "flip"))
    got = client("fetch_file", "org/net", "w.safetensors", sha256=expected)
    assert Path(got["path"]).read_bytes() == WEIGHTS
    bodies = sum(n for request, n in client.hub.requests.items() if request.startswith("GET /org/net/resolve"))
    assert bodies == 2


def test_a_bit_flipped_every_time_is_an_error_and_leaves_nothing_in_the_cache(client: Client) -> None:
    client.hub.faults.add(Fault(BODY, "flip", times=9))
    got = client("fetch_file", "org/net", "w.safetensors", sha256=SHA256)
    assert got["kind"] == "DownloadError"
    assert "does not have the expected sha256" in got["error"]
    assert sum(n for request, n in client.hub.requests.items() if request.startswith("GET /org/net/resolve")) == 2
    client.hub.faults.clear()
    assert "path" in client("fetch_file", "org/net", "w.safetensors", sha256=SHA256)


def test_a_file_damaged_in_the_cache_is_replaced(client: Client) -> None:
    cached = Path(client("fetch_file", "org/net", "sub/notes.txt")["path"])
    cached.resolve().write_bytes(b"NOTES")
    assert Path(client("fetch_file", "org/net", "sub/notes.txt")["path"]).read_bytes() == b"notes"


def test_a_snapshot_holds_the_matching_files_only(client: Client) -> None:
    got = client("fetch_snapshot", "org/net", repo_type="model", revision=None, patterns=["*.safetensors", "sub/*"])
    folder = Path(got["path"])
    found = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}
    assert found == {"w.safetensors", "sub/notes.txt"}
    assert folder.name == got["sha"]


def test_a_flipped_bit_in_a_snapshot_is_noticed(client: Client) -> None:
    wanted = {"repo_type": "model", "revision": None, "patterns": ["*.safetensors"]}
    client.hub.faults.add(Fault(BODY, "flip"))
    got = client("fetch_snapshot", "org/net", **wanted)
    assert (Path(got["path"]) / "w.safetensors").read_bytes() == WEIGHTS
    (Path(got["path"]) / "w.safetensors").resolve().write_bytes(bytes(len(WEIGHTS)))
    client.hub.faults.add(Fault(BODY, "flip", times=9))
    got = client("fetch_snapshot", "org/net", **wanted)
    assert "w.safetensors at" in got["error"]
    assert "also when fetched again" in got["error"]


def test_a_pattern_without_a_file_is_an_error(client: Client) -> None:
    got = client("fetch_snapshot", "org/net", repo_type="model", revision=None, patterns=["*.json", "*.parquet"])
    assert "org/net" in got["error"]
    assert "has no file matching '*.parquet'" in got["error"]


def test_what_the_hub_does_not_have_is_named(client: Client) -> None:
    file = "w.safetensors"
    expected: list[tuple[str, str, str | None, str]] = [
        ("org/gone", file, None, "org/gone is not on the Hub, or is private"),
        ("org/net", file, "v9", "org/net has no revision v9"),
        ("org/net", file, "f" * 40, f"org/net has no revision {'f' * 40}"),
        ("org/net", "other.bin", None, "org/net at main has no file other.bin"),
        ("not a repo", file, None, "not a repo is not a valid repository id"),
        ("org/\x1b[31m", file, None, "org/\\x1b[31m is not a valid repository id"),
    ]
    answers = client.all(*(("fetch_file", (repo, name), {"revision": at}) for repo, name, at, _ in expected))
    for answer, (*_, complaint) in zip(answers, expected, strict=True):
        assert complaint in answer["error"]


@pytest.mark.parametrize(
    ("status", "code", "complaint"),
    [(403, "GatedRepo", "org/net is gated"), (400, "", "org/net: the Hub answered 400")],
)
def test_a_refusal_of_the_hub_is_one_line(client: Client, status: int, code: str, complaint: str) -> None:
    client.hub.faults.add(Fault("org/net", "status", status=status, code=code, times=99))
    wanted: dict[str, object] = {"repo_type": "model", "revision": None, "patterns": ["*"]}
    answers = client.all(("fetch_file", ("org/net", "w.safetensors"), {}), ("fetch_snapshot", ("org/net",), wanted))
    assert all(complaint in answer["error"] for answer in answers)


def test_an_unreachable_hub_is_one_line(client: Client) -> None:
    got = client("fetch_file", "org/net", "w.safetensors", env={"HF_ENDPOINT": "http://127.0.0.1:1"})
    assert got["kind"] == "DownloadError"
    assert "check the connection" in got["error"]


def test_offline_without_a_cache_says_what_to_do(client: Client) -> None:
    calls = [("fetch_file", ("org/net", "w.safetensors"), {"revision": revision}) for revision in (None, "0" * 40)]
    for got in client.all(*calls, env={"HF_HUB_OFFLINE": "1"}):
        assert "is not in the local cache and HF_HUB_OFFLINE is set; unset it and run once online" in got["error"]
    assert not client.hub.requests


def test_offline_serves_the_branch_as_it_was_last_downloaded(client: Client) -> None:
    online = client("fetch_file", "org/net", "w.safetensors", sha256=SHA256)
    client.hub.store.commit(KEY, {"w.safetensors": b"newer"})
    client.hub.requests.clear()
    assert client.offline("fetch_file", "org/net", "w.safetensors", sha256=SHA256) == online
    assert not client.hub.requests
    missing = client.offline("fetch_snapshot", "org/net", repo_type="model", revision=None, patterns=["*.json"])
    assert missing["kind"] == "NoSuchFilesError"


def cifar_like() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    table = pa.table({"img": [{"bytes": png.getvalue(), "path": None}] * 20, "label": [0, 1] * 10})
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def test_datasets_of_the_hub_load_by_name_and_by_id_and_report_their_commit(client: Client) -> None:
    content = cifar_like()
    files = {f"plain_text/{split}-00000-of-00001.parquet": content for split in ("train", "test")}
    sha = client.hub.store.commit(
        "datasets/uoft-cs/cifar10", {**files, "extra/train-0.parquet": b"never fetched by name"}
    )
    other_sha = client.hub.store.commit("datasets/org/pets", files)

    size: dict[str, object] = {"image_size": 8}
    named, by_id, by_config, gone = client.all(
        ("load_dataset", ("cifar10",), size),
        ("load_dataset", ("org/pets",), size),
        ("load_dataset", ("org/pets/plain_text",), size),
        ("load_dataset", ("org/gone",), size),
    )
    assert (named["name"], named["revision"], named["train"], named["test"]) == ("cifar10", sha, 18, 20)
    assert not any("extra" in request for request in client.hub.requests)
    assert (by_id["name"], by_id["revision"]) == ("org/pets", other_sha)
    assert by_id["fingerprint"] == by_config["fingerprint"] == named["fingerprint"]
    assert "org/gone is not on the Hub" in gone["error"]
    assert client.offline("load_dataset", "cifar10", **size) == named


def robust_checkpoint(arch: str) -> bytes:
    """A robust checkpoint of an ImageNet network, as the robustness library writes it."""
    shapes = layout(arch, 1000).shapes
    network = {
        f"module.model.{name}": torch.full(shape, 0.5) if shape else torch.tensor(90) for name, shape in shapes.items()
    }
    constants = {"module.normalizer.new_mean": torch.full((3, 1, 1), 0.25), "module.normalizer.new_std": torch.ones(3)}
    file = io.BytesIO()
    torch.save({"model": network | constants, "epoch": 90}, file)
    return file.getvalue()


def test_published_robust_weights_load_by_norm_and_eps_and_only_with_the_contents_that_are_known(
    client: Client,
) -> None:
    content = robust_checkpoint("resnet18")
    names = ("resnet18_l2_eps3.ckpt", "resnet18_linf_eps4.0.ckpt")
    sha = client.hub.store.commit("models/madrylab/robust-imagenet-models", dict.fromkeys(names, content))
    loaded, changed, absent = client.all(
        ("load_backbone", ("adv:l2-3", "resnet18"), {}),
        ("load_backbone", ("adv", "resnet18"), {}),
        ("load_backbone", ("adv:linf-8/255", "resnet18"), {}),
    )
    assert loaded["mean"] == [0.25] * 3
    assert loaded["provenance"] == {
        "source": "madrylab/robust-imagenet-models/resnet18_l2_eps3.ckpt",
        "revision": sha,
        "license": "mit",
        "SA": 0.5312,
        "SA_from": "README of microsoft/robust-models-transfer",
        "norm": "l2",
        "eps": 3.0,
        "sha256": f"sha256:{hashlib.sha256(content).hexdigest()}",
        "layout": "model, prefix module.model., its own mean and std",
    }
    # The real file's checksum is in the table, so another file in its place is noticed.
    assert "resnet18_linf_eps4.0.ckpt" in changed["error"]
    assert "does not have the expected sha256" in changed["error"]
    assert "has no file resnet18_linf_eps8.0.ckpt" in absent["error"]
