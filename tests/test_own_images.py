"""The walk of somebody with a folder of photos: find, predict, export, push, and plain timm loads what was trained."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lottery_hub import cli
from lottery_hub.images.datasets import load_dataset
from lottery_hub.sharing.pulling import load_ticket
from tests import warm
from tests.hub.server import Hub

COLOURS = {"red apple": (200, 30, 30), "Blåbær & co": (30, 40, 200), "緑の葉": (40, 190, 40)}
NAMES = sorted(COLOURS)
FIND = ["--pretrain", "adv", "--method", "omp", "--device", "cpu", "--precision", "float32", "--tolerance", "points:99",
        "--jobs", "1", "--batch-size", "16", "--set", "draw.rounds=1", "--set", "transfer.standard.epochs=6",
        "--set", "transfer.adversarial.epochs=6", "--set", "transfer.adversarial.attack.steps=1",
        "--set", "transfer.test_attack.steps=2"]  # fmt: skip

# In a process of its own: the Hub's client reads its address when it is imported.
PUSH = """
import json, sys
import lottery_hub, timm, torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
run, picture = sys.argv[1:]
pushed = lottery_hub.push_ticket(run, "alice/photos", checks=False)
model = timm.create_model("hf-hub:alice/photos", pretrained=True).eval()
config = model.pretrained_cfg
transform = create_transform(**resolve_model_data_config(model), is_training=False)
said = model(transform(Image.open(picture).convert("RGB"))[None]).argmax(1).item()
torch.save(model.state_dict(), "weights.pt")
print(json.dumps({"classes": model.num_classes, "names": config["label_names"], "size": config["input_size"],
                  "said": config["label_names"][said]}))
"""


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str]:
    """Call the command line, which must end well; return its stdout and stderr."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lottery-hub", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
    shown = capsys.readouterr()
    assert end.value.code == 0, shown.err
    return shown


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos of three colours in 16 sizes from 70 to 145 pixels a side, most of them not square."""
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (tmp_path / "my photos" / name).mkdir(parents=True)
        for number in range(16):
            shape = (70 + 5 * number, 145 - 5 * number, 3)
            pixels = np.clip(rng.normal(colour, 25, shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "my photos" / name / f"{number}.png")
    return tmp_path / "my photos"


@pytest.mark.timeout(900)  # half a minute of work, in which a busy machine may find no time
def test_a_folder_of_photos_becomes_a_network_that_names_them_everywhere(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="an ONNX export needs pip install 'lottery-hub[export]'")
    monkeypatch.chdir(tmp_path)
    shown = call(capsys, "find", "--dataset", str(photos), "--output", "found", *FIND)
    assert (
        "note: the pictures are 70 to 145 pixels a side, and the network sees 32x32 of them; --image-size" in shown.err
    )
    assert shown.out.splitlines()[-5:-1] == [
        "  lottery-hub predict found IMAGE",
        f"  lottery-hub evaluate found --dataset '{photos}'",
        "  lottery-hub export found --format onnx --output net.onnx",
        f"  lottery-hub push found USER/NAME --dataset '{photos}'",
    ]
    card = (tmp_path / "found" / "ticket" / "README.md").read_text(encoding="utf-8")
    made = "pictures of 70 to 145 pixels a side, cropped at the centre to squares, resized to 32x32 (bilinear)"
    assert f"Made to fit: {made}, shown to the network as they are." in card
    assert "緑の葉" in card

    told: dict[str, Any] = json.loads(call(capsys, "predict", "found", str(photos), "--json")[0])
    assert told["network"] == "after adversarial transfer to my photos, seed 0: 3 classes"
    assert len(told["predictions"]) == 48
    assert all(Path(said["image"]).parent.name == said["name"] for said in told["predictions"])

    call(capsys, "export", "found", "--format", "onnx", "--output", "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    names = json.loads(about["class_names"])
    assert (names, about["image_size"], about["crop_mode"]) == (NAMES, "32", "center")
    test = load_dataset(photos).test
    logits = session.run(["logits"], {"images": test.images.numpy().astype(np.float32) / 255})[0]
    assert (logits.argmax(1) == test.labels.numpy()).all()

    with Hub(tmp_path / "hub") as hub:
        environment = hub.environment(tmp_path / "home", token=hub.token("alice"))
        picture = str(photos / "Blåbær & co" / "3.png")
        done = warm.run("-c", PUSH, "found", picture, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "classes": 3, "names": NAMES, "size": [3, 32, 32], "said": "Blåbær & co",
    }  # fmt: skip
    import torch

    network = load_ticket("found").network()
    pushed = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert all(torch.equal(tensor, network.weights[name]) for name, tensor in pushed.items())
