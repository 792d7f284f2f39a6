"""Bad values for arguments and options of the command line, by what is asked for there: paths, numbers, words, text."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import torch
from folders import LEVELS, valid
from material import material, plan_of
from PIL import Image

from lottery_hub.storage.folder import load_ticket

ESCAPE = "\x1b[2J\x1b]0;title\x07name\n\r\u202e"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 4563402752\n"

NUMBERS = [
    *("", " ", "two", "nan", "inf", "-inf", "-1", "-0", "0", "1e308", "1e999", "-1e999", "9" * 400, "0x10", "1_0"),
    *("٣", "²", "1/0", "8/255/3", "1,5", "99999999999999999999", "4294967296", "1e-400", "--", "-", ESCAPE, "\udcff"),
]
WORDS = ["", " ", "nosuch", "STD", "None", "null", "--help", "-", ESCAPE, "x" * 5000, "std,adv", "\0", "\udcff", "é"]
TEXT = [
    *("", " ", "nosuch", "~nosuch/x", "../..", "a/b/c/d", "-", "--", ESCAPE, "x" * 300, "x" * 5000, "\0", "\udcff"),
    *("a\\b", "*", "%s%n", "{}", "$HOME", "[bold]x[/bold]", "[/]", "adv:", ":", "adv:linf-9/255", "std:nosuch.pth"),
    *("user/name@", "@v1", "user/name@../x", "https://huggingface.co/user/name/blob/main", "http://[::1", "s3://x/y"),
    *("file:///etc/passwd", "hf://user/name", "hf-hub:user/name", "user/name", "C:\\x", "points:", "points:nan"),
    *("noninferiority:-1", "points:1e999", "std:", "٣"),
]
SETTINGS = [
    *("", "x", "=", "=1", "a=b", "seeds", "seeds=", "seeds=nan", "seeds=1e999", "seeds=-1", "seeds=[1]", "__class__=1"),
    *("transfer=1", "transfer.standard=null", "transfer.standard.lr=nan", "transfer.standard.lr=-1", "standard.lr=NaN"),
    *("standard.lr=Infinity", "recipe.lr=0", "recipe.epochs=0", "recipe.epochs=1e9", "data.image_size=1000000"),
    *("data.image_size=7", "data.dataset=nosuch", "data.fraction=0", "data.fraction=2", "data.split_seed=-1"),
    *("data.validation=1", "test_attack.method=cw", "transfer.test_attack.method=n-fgsm", "test_attack.eps=2"),
    *("transfer.test_attack.norm=l1", "draw.rounds=1000", "draw.prune_fraction=1", "rounds=0", "a.b.c.d.e=1"),
    *("seeds={", "seeds=" + "[" * 5000, "seeds=" + "9" * 5000, "x" * 5000 + "=1", ".=1", "..=1", "seeds.=1", "\0=\0"),
    *(f"{ESCAPE}={ESCAPE}", "seeds=\udcff", "pretrain=\udcff", "arch=vgg", "plan.seeds=1", "standard.batch_size=1"),
    *("standard.milestones=[3,1]", "standard.augment=mirror", "standard.precision=float16", "standard.image_size=4"),
]


def kinds_of_folders(place: Path) -> dict[str, Path]:
    """Make what people hand over where something else is asked for; return name → path."""
    there = material().place
    made = {name: there / name for name in ("data", "net", "run", "half", "store")}
    made |= {"ticket": there / "run/ticket", "ladder": there / "run/ladder"}
    made["trained"] = next((there / "run/ticket/trained").glob("ticket-standard-*"))
    made |= {name: make(place / name) for name, make in _MAKERS.items()}
    return {name: path for name, path in made.items() if os.path.lexists(path)}


def paths(kinds: dict[str, Path]) -> list[str]:
    """Return references of every kind that there is, sound and damaged, and what is none."""
    strange = [
        *("", " ", ".", "..", "/", "~", "~nosuch/x", "-", "--", "/dev/null", "/dev/zero", "/proc/self/mem", "/proc"),
        *("nowhere", "nowhere/below", "x" * 300, "/".join(["y" * 200] * 30), "a\0b", ESCAPE, "\udcff", "file/below"),
        *("s3://nowhere/x", "memory://x", "https://huggingface.co/user/name", "http://[::1", "file:///etc/passwd"),
        *(
            "user/name",
            "user/name@v1",
            "user/name@../../x",
            "hf-hub:user/name",
            "USER/NAME/x/y",
            "resnet18-slim-nosuch",
        ),
    ]
    return [*strange, *(str(path) for path in kinds.values())]


def _file(content: bytes) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return make


def _plan(line: str) -> Callable[[Path], Path]:
    """Make the file of a find's plan, with a line above it."""
    return _file(f"{line}\n{plan_of().toml()}".encode())


def _folder(**files: bytes) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        for name, content in files.items():
            file = path / name.replace("__", "/").replace("_dot_", ".")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        path.mkdir(exist_ok=True)
        return path

    return make


def _link(to: str) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.symlink_to(to)
        return path

    return make


def _fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _locked(path: Path) -> Path:
    path.mkdir()
    (path / "inside").touch()
    path.chmod(0)
    return path


def _ticket(damage: Callable[[Path], object], kind: str = "ticket float32") -> Callable[[Path], Path]:
    """Make a folder of a ticket, and damage it once it is written."""

    def make(path: Path) -> Path:
        valid()[kind].copy().write(path)
        damage(path)
        return path

    return make


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _relabelled(path: Path) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    config["lottery_hub"]["level"] = LEVELS + 5
    path.write_text(json.dumps(config), encoding="utf-8")


def _pruned(path: Path) -> Path:
    """Make a checkpoint as torch.nn.utils.prune leaves it."""
    ticket = load_ticket(material().place / "run/ticket")
    state: dict[str, torch.Tensor] = {}
    for name, weight in ticket.weights.items():
        kept = ticket.mask.get(name)
        state |= {name: weight} if kept is None else {f"{name}_orig": weight, f"{name}_mask": kept.float()}
    torch.save(state, path)
    return path


def _images(classes: int, side: int = 8, split: bool = True) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        for part in ("train", "test") if split else (".",):
            for label in range(classes):
                folder = path / part / f"class-{label}"
                folder.mkdir(parents=True)
                for number in range(4):
                    Image.new("RGB", (side, side), (60 * label, 50 * number, 9)).save(folder / f"{number}.png")
        return path

    return make


def _spoilt(path: Path) -> Path:
    _images(2)(path)
    (path / "train/class-0/0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    return path


_MAKERS: dict[str, Callable[[Path], Path]] = {
    "file": _file(b"not what is asked for"),
    "empty-file": _file(b""),
    "pointer.pth": _file(LFS),
    "pruned.pth": _pruned,
    "garbage.pth": _file(bytes(range(256)) * 9),
    "garbage.safetensors": _file(b"\xff" * 300),
    "empty-folder": _folder(),
    "loop": _link("loop"),
    "dangling": _link("nothing"),
    "fifo": _fifo,
    "locked": _locked,
    "saved-to-disk": _folder(dataset_info_dot_json=b"{}", state_dot_json=b"{}", data_dot_arrow=b"ARROW1"),
    "saved-dict": _folder(dataset_dict_dot_json=b'{"splits": ["train"]}', train__state_dot_json=b"{}"),
    "parquet-garbage": _folder(train_dot_parquet=b"PAR1 and no more"),
    "parquet-pointer": _folder(**{"data__train-00000-of-00001_dot_parquet": LFS}),
    "plan.toml": _plan(""),
    "plan-deep.json": _file(b'{"a":' * 5000 + b"1" + b"}" * 5000),
    "plan-nan.toml": _plan("seeds = nan"),
    "plan-huge.toml": _plan("seeds = " + "9" * 400),
    "plan-unknown.toml": _plan('"\\u001b[2J" = 1'),
    "plan-twice.toml": _plan('pretrain = "std"'),
    "plan-bytes.toml": _file(b"seeds = 1 # \xff"),
    "plan-array.json": _file(b"[1, 2]"),
    "plan-nan.json": _file(b'{"seeds": NaN, "draw": -Infinity}'),
    "loose-pictures": _folder(a_dot_png=b"\x89PNG", b_dot_jpg=b"\xff\xd8"),
    "config-only": _folder(config_dot_json=b"{}"),
    "config-array": _folder(config_dot_json=b"[1]", results_dot_json=b"", ticket_dot_safetensors=b""),
    "run-only": _folder(run_dot_json=b"{}"),
    "one-class": _images(1),
    "two-classes": _images(2),
    "three-classes": _images(3),
    "no-split": _images(3, split=False),
    "one-pixel": _images(3, side=1),
    "large-pictures": _images(2, side=700),
    "spoilt-picture": _spoilt,
    "ticket-cut": _ticket(lambda folder: _cut(folder / "ticket.safetensors")),
    "ticket-flipped": _ticket(lambda folder: _flipped(folder / "ticket.safetensors")),
    "ticket-pointer": _ticket(lambda folder: (folder / "ticket.safetensors").write_bytes(LFS)),
    "ticket-config-cut": _ticket(lambda folder: _cut(folder / "config.json")),
    "ticket-config-pointer": _ticket(lambda folder: (folder / "config.json").write_bytes(LFS)),
    "ticket-results-cut": _ticket(lambda folder: _cut(folder / "results.json")),
    "ticket-results-gone": _ticket(lambda folder: (folder / "results.json").unlink()),
    "ticket-relabelled": _ticket(lambda folder: _relabelled(folder / "config.json")),
    "ladder-cut": _ticket(lambda folder: _cut(folder / "ladder.safetensors"), "ladder float32"),
    "backbone-cut": _ticket(lambda folder: _cut(folder / "backbone.safetensors"), "backbone float32"),
    "backbone-gone": _ticket(lambda folder: (folder / "backbone.safetensors").unlink(), "backbone float32"),
}
