"""The command line: exit codes, one line for an error, one JSON object on stdout, and the whole chain of commands."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

import lottery_hub
from lottery_hub import cli
from lottery_hub.cli.show import grouped
from lottery_hub.networks.backbones import Backbone, fresh_weights, skeleton
from lottery_hub.networks.masks import prunable_names
from lottery_hub.networks.tickets import Ladder
from lottery_hub.running.pieces import CHECKPOINT
from lottery_hub.settings.config import DrawPlan
from lottery_hub.storage.folder import load_backbone_folder, load_ladder, load_ticket, save_backbone
from lottery_hub.training.drawing import draw
from tests import warm

COMMANDS = [
    "find",
    "draw",
    "pretrain",
    "finetune",
    "evaluate",
    "verify",
    "show",
    "export",
    "import",
    "backbones",
    "results",
]
RUN = [sys.executable, "-c", "from lottery_hub.cli import main; main()"]


def process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    return warm.run(*warm.CLI, *arguments)


PROGRESS = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ")


class Called:
    """What a command left: exit code, stdout, stderr; of that, what it was at apart, as `progress`."""

    def __init__(self, capture: pytest.CaptureFixture[str] | None, *arguments: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["lottery-hub", *arguments])
            with pytest.raises(SystemExit) as end:
                cli.main()
        self.code = end.value.code
        self.out, err = capture.readouterr() if capture else ("", "")
        lines = err.splitlines(keepends=True)
        self.err = "".join(line for line in lines if not PROGRESS.match(line))
        self.progress = [PROGRESS.sub("", line).rstrip() for line in lines if PROGRESS.match(line)]

    @property
    def object(self) -> dict[str, Any]:
        """The one JSON object that stdout is."""
        assert self.out.count("\n") == 1
        assert self.out.endswith("}\n")
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    """Call the command line inside this process."""
    return lambda *arguments: Called(capsys, *arguments)


# Damage and the disk


def test_damage_is_one_line_of_warning_and_the_command_goes_on(call: Any, backbone: Backbone, tmp_path: Path) -> None:
    net, run = save_backbone(backbone, tmp_path / "net"), tmp_path / "run"
    words = ["draw", "--pretrain", str(net), "--method", "omp", "--rounds", "1", "--output", str(run), "--json"]
    assert call(*words).code == 0
    (run / "run.json").write_text("{", encoding="utf-8")
    done = call(*words)
    assert done.code == 0
    assert done.object["method"] == "omp"
    (line,) = done.err.splitlines()
    assert line.startswith(f"warning: cannot read {run}/run.json: ")
    assert line.endswith("; it is set aside as run.json.damaged and made anew")
    assert call(*words).err == ""


def test_what_the_system_says_is_one_line_wherever_it_was_met(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device", "/some/\x1b[2Jwhere")

    monkeypatch.setattr(cli, "app", full)
    done = call("show")
    assert (done.code, done.out) == (1, "")
    (line,) = done.err.splitlines()
    assert line.startswith("error: [Errno 28] No space left on device: ")
    assert line.isprintable()


# Help and usage


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help_goes_to_stdout_and_ends_well(call: Any, arguments: list[str]) -> None:
    done = call(*arguments)
    assert done.code == 0
    assert "Usage:" in done.out
    assert done.err == ""


def test_help_lists_every_command(call: Any) -> None:
    shown = call("--help").out
    assert all(name in shown for name in COMMANDS)


def test_the_version_is_the_packages(call: Any) -> None:
    done = call("--version")
    assert (done.code, done.out) == (0, f"lottery-hub {lottery_hub.__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["fnid"],
        ["find", "--nonsense"],
        ["find", "--seeds", "two"],
        ["find", "--scan", "some"],
        ["draw", "--method", "magic"],
        ["pretrain"],
        ["pretrain", "--dataset", "digits", "--recipe", "none"],
        ["pretrain", "--dataset", "digits", "--seed", "-1"],
        ["show"],
        ["evaluate", "x", "--norm", "l3"],
        ["find", "--batch-size", "some"],
        ["find", "--jobs", "0"],
        ["pretrain", "--dataset", "digits", "--batch-size", "1"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_says_so_on_stderr(call: Any, arguments: list[str]) -> None:
    done = call(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert "Usage:" in done.err


# Errors


@pytest.fixture(scope="module")
def ten_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone folder whose head fits digits."""
    weights = fresh_weights("resnet18-slim", 10, 0)
    return save_backbone(Backbone("resnet18-slim", "std", weights), tmp_path_factory.mktemp("ten") / "net")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["show", "nowhere"], "no ticket at nowhere"),
        (["show", "x" * 5000], "no ticket at xxx"),
        (["show", "\x1b[31mred\nline"], r"no ticket at \x1b[31mred\nline"),
        (["find", "--pretrain", "nosuch"], "unknown backbone 'nosuch'"),
        (["find", "--pretrain", "fast-adv", "--arch", "resnet34"], "no fast-adv weights are known for resnet34"),
        (["find", "--pretrain", "std", "--arch", "resnet34"], "HF_HUB_OFFLINE is set"),
        (["draw", "--pretrain", "adv:nosuch.pth", "--method", "omp"], "no checkpoint at nosuch.pth"),
        (["pretrain", "--dataset", "nosuch"], "no dataset 'nosuch'"),
        (["pretrain", "--dataset", "digits", "--arch", "vgg"], "unknown architecture 'vgg'"),
        (["search", "--arch", "\udcff"], "HF_HUB_OFFLINE is set"),
        (["pretrain", "--dataset", "digits", "--set", "arch=vgg"], "unknown architecture 'vgg'"),
        (["pretrain", "--dataset", "digits", "--set", "recipe.speed=1"], "--set recipe.speed: there is no setting"),
        (["pretrain", "--dataset", "digits", "--set", "recipe.lr=fast"], "recipe.lr: "),
        (["pretrain", "--dataset", "digits", "--epochs", "-1"], "epochs: "),
        (["evaluate", "x", "--norm", "l2"], "--eps"),
        (["pretrain", "--dataset", "digits", "--epochs", "0"], "epochs: "),
        (["pretrain", "--dataset", ""], "dataset: "),
        (["draw", "--pretrain", "{backbone}", "--method", "omp", "--rounds", "65"], "rounds: "),
        (["find", "--pretrain", "{backbone}", "--eps", "8"], "an Linf eps of 8 covers all of [0,1]"),
        (["find", "--pretrain", "{backbone}", "--preset", "paper", "--eps", "-0.1"], "eps: "),
        (["find", "--pretrain", "{backbone}", "--eps", "much"], "'much' is not a number; write 0.03 or 8/255"),
        (["find", "--pretrain", "{backbone}", "--seeds", "0"], "seeds: "),
        (["find", "--pretrain", "{backbone}", "--tolerance", "2 %"], "unknown tolerance '2 %'"),
        (["find", "--pretrain", "{backbone}", "--margin", "2 %"], "unknown margin '2 %'"),
        (["find", "--pretrain", "{backbone}", "--margin", "2", "--tolerance", "std"], "give one of them"),
        (["find", "--pretrain", "{backbone}", "--seeds", "2", "--max-seeds", "4"], "give seeds auto with it"),
        (["find", "--pretrain", "{backbone}", "--fraction", "10"], "fraction: "),
        (["find", "--pretrain", "{backbone}", "--ladder", "nowhere"], "no ticket at nowhere"),
        (["evaluate", "{backbone}", "--eps", "2"], "an Linf eps of 2 covers all of [0,1]"),
        (["evaluate", "{backbone}", "--restarts", "0"], "restarts: "),
        (["evaluate", "{backbone}", "--sparsity", "0.5"], "holds a backbone, which is dense"),
        (["pretrain", "--dataset", "digits", "--device", "tpu"], "unknown device 'tpu'; choose auto, cpu, cuda"),
        (["finetune", "nowhere"], "no ticket at nowhere"),
        (["evaluate", "nowhere"], "no ticket at nowhere"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_an_error_is_one_line_on_stderr_and_ends_with_1(
    call: Any, ten_classes: Path, arguments: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call(*(word.format(backbone=ten_classes) for word in arguments))
    assert done.code == 1
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert reason in done.err
    assert done.err.rstrip("\n").isprintable()
    assert list(tmp_path.iterdir()) == []  # an error before the work begins leaves nothing behind


def test_a_process_prints_no_traceback_unless_asked(tmp_path: Path) -> None:
    plain = process("show", str(tmp_path))
    assert plain.returncode == 1
    assert plain.stdout == ""
    assert plain.stderr.splitlines() == [plain.stderr.rstrip("\n")]
    assert plain.stderr.startswith("error: no ticket at ")
    debug = process("--debug", "show", str(tmp_path))
    assert debug.returncode == 1
    assert "Traceback (most recent call last)" in debug.stderr
    assert "TicketError: no ticket at " in debug.stderr


# The whole chain, on digits, in seconds

SMALL = ["--device", "cpu", "--precision", "float32", "--json"]


def assignments(*pairs: str) -> list[str]:
    return [word for pair in pairs for word in ("--set", pair)]


RECIPES = [
    f"{prefix}{regime}.{setting}"
    for prefix in ("", "transfer.")
    for regime in ("standard", "adversarial")
    for setting in ("epochs=1", "image_size=16")
]
TRANSFERS = [pair for pair in RECIPES if not pair.startswith("transfer.")] + ["test_attack.steps=1"]
ATTACKS = ["adversarial.attack.steps=1", "adversarial.selection_attack=null"]


class Chain:
    """The commands of the chain, in order; each needs those before it, and runs when something is asked of it."""

    def __init__(self, root: Path, steps: dict[str, list[str]]) -> None:
        self.root, self.steps = root, steps

    def __getitem__(self, name: str) -> tuple[list[str], Path]:
        """A command and its run directory; those before it are done."""
        for before in takewhile(lambda step: step != name, self.steps):
            self.done(before)
        return [*self.steps[name], *SMALL, "--output", str(self.root / name)], self.root / name

    def done(self, name: str) -> Path:
        """The run directory of a command that is done."""
        arguments, place = self[name]
        if not place.exists():
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                assert Called(None, *arguments).code == 0
        return place


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    root = tmp_path_factory.mktemp("chain")
    digits = ["--dataset", "digits"]
    small_data = ["data.image_size=16", "data.fraction=0.1"]
    store = ["--store", str(root / "store")]  # of all tests
    steps = {
        "pretrain": [
            *("pretrain", *digits, "--recipe", "std", "--epochs", "1", "--batch-size", "100"),
            *assignments(*small_data, "recipe.image_size=16", "test_attack.steps=1"),
        ],
        "draw": [
            *("draw", "--pretrain", str(root / "pretrain"), "--source", "digits"),
            *("--method", "imp", "--rounds", "2", "--batch-size", "50", *store),
            *assignments(*small_data, "recipe.epochs=1", "recipe.image_size=16"),
        ],
        "find": [
            *("find", "--pretrain", str(root / "draw"), "--ladder", str(root / "draw"), *digits),
            *("--fraction", "0.1", "--tolerance", "points:50", "--batch-size", "32", *store),
            *assignments("data.image_size=16", *(f"transfer.{pair}" for pair in [*TRANSFERS, *ATTACKS])),
        ],
        "finetune": [
            *("finetune", str(root / "find"), *digits, "--regime", "adversarial", "--fraction", "0.1", "--seed", "3"),
            *("--batch-size", "auto"),
            *assignments(*TRANSFERS, *ATTACKS),
        ],
    }
    return Chain(root, steps)


def test_pretrain_writes_a_backbone(chain: Chain, call: Any) -> None:
    arguments, output = chain["pretrain"]
    done = call(*arguments)
    assert done.code == 0
    assert done.object["test"]["samples"] == 359
    assert load_backbone_folder(Path(done.object["backbone"])).kind == "std"
    assert Path(done.object["backbone"]) == output / "units" / "pretrain" / "backbone"
    assert done.progress[0] == "reading images"
    assert any(line.startswith("pretrain std: epoch 1/1, loss") for line in done.progress)
    again = call(*arguments)
    assert again.object == done.object
    assert again.progress == ["reading images"]


def test_draw_writes_a_ladder(chain: Chain, call: Any) -> None:
    arguments, output = chain["draw"]
    done = call(*arguments)
    assert done.code == 0
    ladder = load_ladder(output)
    assert done.object == {"ladder": str(output / "ladder"), "method": "imp", "sparsities": list(ladder.sparsities)}
    assert ladder.levels == 2


def test_the_same_draw_again_writes_nothing(chain: Chain, call: Any, tmp_path: Path) -> None:
    chain.done("draw")
    arguments, output = chain["draw"]
    copy = shutil.copytree(output, tmp_path / "draw")
    (copy / "ladder" / "README.md").write_text("# mine")

    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.name != ".lock"}

    before = times()
    again = [str(copy) if word == str(output) else word for word in arguments]
    assert call(*again, "--json").object["ladder"] == str(copy / "ladder")
    assert times() == before


def test_find_writes_a_ticket(chain: Chain, call: Any) -> None:
    arguments, output = chain["find"]
    done = call(*arguments)
    assert done.code == 0
    assert done.object["ticket"] == str(output / "ticket")
    assert load_ticket(output).sparsity == done.object["sparsity"]
    assert done.err.startswith("note: ")
    assert any(line.startswith("ladder: ") for line in done.progress)
    assert any(line.startswith("dense: standard SA ") for line in done.progress)


def test_a_batch_size_is_that_of_the_recipes_and_recorded(chain: Chain, call: Any) -> None:
    def plan(name: str) -> Any:
        assert call(*chain[name][0]).code == 0
        return json.loads((chain[name][1] / "run.json").read_text(encoding="utf-8"))["record"]

    assert plan("pretrain")["plan"]["recipe"]["batch_size"] == 100
    assert plan("draw")["plan"]["recipe"]["batch_size"] == 50
    transfer = plan("find")["transfer"]
    assert [transfer[regime]["batch_size"] for regime in ("standard", "adversarial")] == [32, 32]
    assert plan("finetune")["recipe"]["batch_size"] == 64


def test_find_for_people_prints_a_table_and_the_ticket(chain: Chain, call: Any) -> None:
    arguments, output = chain["find"]
    done = call(*(word for word in arguments if word != "--json"))
    assert done.code == 0, done.err
    assert "ouble win" in done.out
    assert f"\nticket: {output / 'ticket'}\n" in done.out
    assert f"\nnext:\n  lottery-hub predict {output} IMAGE\n" in done.out
    records = load_ticket(output).records
    (chosen,) = (row for row in records["levels"] if row["level"] == records["level"])
    assert ("validation images, where none wins" in done.out) == (not chosen["validation"]["double_win"])
    assert records["caveats"]
    for shown in (done, call("show", str(output))):
        assert [line for line in shown.out.splitlines() if "caveat" in line] == [
            f"caveat: {caveat}" for caveat in records["caveats"]
        ]


@pytest.mark.slow
def test_find_gives_a_verdict_for_every_fraction(chain: Chain, call: Any, tmp_path: Path) -> None:
    whole, _ = chain["find"]
    place = whole.index("--output")
    words = [*whole[:place], "--fraction", "0.05", "--output", str(tmp_path / "both")]
    done = call(*words)
    assert done.code == 0
    assert [summary["fraction"] for summary in done.object["fractions"]] == [0.1, 0.05]
    for summary in done.object["fractions"]:
        folder = tmp_path / "both" / f"fraction-{summary['fraction']:g}"
        assert summary["ticket"] == str(folder / "ticket")
        assert load_ticket(folder).records["data"]["fraction"] == summary["fraction"]
    shown = call(*(word for word in words if word != "--json")).out
    table = [line.split() for line in shown[shown.index(" fraction") :].splitlines()]
    assert [row[0] for row in table if row and row[0] in ("0.1", "0.05")] == ["0.1", "0.05"]


def test_a_fraction_that_is_none_is_refused_before_any_is_tried(call: Any, tmp_path: Path) -> None:
    done = call("find", "--fraction", "0.1", "--fraction", "0", "--output", str(tmp_path / "run"))
    assert (done.code, done.out) == (1, "")
    assert "fraction" in done.err
    assert not (tmp_path / "run").exists()


def test_find_with_other_settings_is_one_line(chain: Chain, call: Any) -> None:
    chain.done("find")
    arguments, _ = chain["find"]
    done = call(*arguments, "--set", "transfer.standard.lr=0.5")
    assert (done.code, done.out) == (1, "")
    assert "belongs to a run with other settings (transfer.standard.lr: 0.02 → 0.5)" in done.err
    assert done.err.count("\n") == 1


def test_verify_says_by_its_exit_code_what_it_found(chain: Chain, call: Any, tmp_path: Path) -> None:
    ladder = str(chain.done("draw") / "ladder")
    place = shutil.copytree(chain.done("find") / "ticket", tmp_path / "ticket")
    command = ["verify", str(place), "--sample", "150", "--device", "cpu"]
    done = call(*command, "--ladder", ladder)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1] == "verified"

    told = call(*command, "--json")
    assert (told.code, told.object["verdict"]) == (3, "cannot tell"), "nobody else has the ladder"

    results = place / "results.json"
    records = json.loads(results.read_text(encoding="utf-8"))
    records["levels"][0]["standard"]["SA"] += 0.01
    results.write_text(json.dumps(records), encoding="utf-8")
    edited = call(*command, "--ladder", ladder)
    assert (edited.code, edited.err) == (1, "")
    assert edited.out.splitlines()[-1] == "not verified"


def test_what_is_no_ticket_cannot_be_verified(call: Any, tmp_path: Path) -> None:
    done = call("verify", str(tmp_path))
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)


def test_finetune_writes_a_trained_ticket(chain: Chain, call: Any) -> None:
    arguments, output = chain["finetune"]
    done = call(*arguments)
    assert done.code == 0
    assert {"regime": "adversarial", "seed": 3, "samples": 359}.items() <= done.object.items()
    trained, start = load_ticket(done.object["ticket"]), load_ticket(output.parent / "find")
    assert trained.sparsity == start.sparsity == done.object["sparsity"]
    assert len(trained.weights["fc.weight"]) == 10
    assert all(not trained.weights[name][~kept].any() for name, kept in trained.mask.items())


def test_evaluate_measures_it(chain: Chain, call: Any) -> None:
    folder = chain.done("finetune") / "units" / "finetune" / "ticket"
    options = ["--dataset", "digits", "--device", "cpu", "--json"]
    done = call("evaluate", str(folder), *options, "--attack", "none")
    assert done.code == 0
    assert (done.object["attack"], done.object["RA"], done.object["samples"]) == (None, None, 359)
    attacked = call("evaluate", str(folder), *options, "--attack", "pgd-1", "--eps", "8/255").object
    assert attacked["attack"].startswith("PGD-1 Linf eps 8/255")
    assert attacked["RA"] <= attacked["SA"] == done.object["SA"]
    other = ["--attack", "pgd-1", "--samples", "20", "--transfer-from", str(folder)]
    assert call("evaluate", str(folder), *options, *other).object["attack"].endswith(": 10 classes (black box)")
    few = call("evaluate", str(folder), *options, "--attack", "apgd-ce", "--samples", "20").object
    assert (few["attack"], few["samples"], few["of"]) == ("APGD-CE-100 Linf eps 0.1", 20, 359)
    checked = call("evaluate", str(folder), *options, "--attack", "none", "--checks", "--samples", "10").object
    assert [set(check) for check in checked["checks"]] == [{"name", "passed", "figures"}] * 6


@pytest.mark.slow
def test_evaluate_measures_corruptions_and_other_norms(chain: Chain, call: Any, ten_classes: Path) -> None:
    folder = str(chain.done("finetune") / "units" / "finetune" / "ticket")
    options = ["--dataset", "digits", "--device", "cpu", "--attack", "none", "--samples", "5"]
    told = call("evaluate", folder, *options, "--unseen", "--json").object
    assert [row["attack"] for row in told["unseen"]] == ["PGD-20 L2 eps 0.5 step 0.125", "APGD-CE-100 L1 eps 12"]
    assert "RA " in call("evaluate", folder, *options, "--unseen").out
    small = call("evaluate", folder, *options, "--corruptions")
    assert (small.code, "32x32" in small.err) == (1, True), "it was trained on images of 16 pixels"
    corrupted = call("evaluate", str(ten_classes), *options, "--corruptions", "--json").object["corruptions"]
    assert len(corrupted["correct"]) == 15
    shown = call("evaluate", str(ten_classes), *options, "--corruptions").out
    assert "jpeg compression" in shown
    assert f"mean over corruptions: {corrupted['mean'] * 100:.2f} %" in shown
    l1 = call("evaluate", folder, "--dataset", "digits", "--attack", "apgd-ce", "--norm", "l1")
    assert (l1.code, l1.err.count("\n")) == (1, 1)
    assert "give one with --eps, e.g. --eps 12" in l1.err


def test_evaluate_refuses_a_head_of_other_classes(tmp_path: Path, ladder: Any, call: Any) -> None:
    lottery_hub.save_ticket(ladder.ticket(1), tmp_path / "ticket")
    done = call("evaluate", str(tmp_path / "ticket"), "--dataset", "digits")
    assert done.code == 1
    assert "its head has 5 classes and digits has 10; fine-tune it first: lottery-hub finetune" in done.err


@pytest.mark.parametrize("step", ["find", "finetune"])
def test_show_tells_what_a_ticket_is(chain: Chain, call: Any, step: str) -> None:
    folder = chain.done(step) / ("units/finetune/ticket" if step == "finetune" else "ticket")
    ticket = load_ticket(folder)
    told = call("show", str(folder), "--json")
    assert told.code == 0
    assert told.err == ""
    assert told.object["sparsity"] == ticket.sparsity
    assert sum(layer["kept"] for layer in told.object["layers"].values()) == told.object["kept"]
    shown = call("show", str(folder))
    assert f"{ticket.sparsity * 100:.2f} % sparsity" in shown.out
    assert ("not judged" in shown.out) is (step == "finetune")


def test_show_tells_what_a_ladder_and_a_backbone_are(chain: Chain, call: Any) -> None:
    told = call("show", str(chain.done("draw")), "--json").object
    assert (told["content"], told["levels"], len(told["rounds"])) == ("ladder", 2, 2)
    assert "2 levels by imp, sparsity %: 20.00, 36.00" in call("show", str(chain.done("draw"))).out
    assert call("show", str(chain.done("draw")), "--sparsity", "0.36", "--json").object["level"] == 2
    backbone = chain.done("pretrain") / "units" / "pretrain"
    assert call("show", str(backbone), "--json").object["content"] == "backbone"
    assert "pre-trained on digits" in call("show", str(backbone)).out


def test_show_sets_the_file_beside_the_dense_network_and_the_limit(tmp_path: Path, ladder: Ladder, call: Any) -> None:
    lottery_hub.save_ticket(ladder.ticket(3), tmp_path / "ticket")
    file_bytes = (tmp_path / "ticket" / "ticket.safetensors").stat().st_size
    told = call("show", str(tmp_path / "ticket"), "--json").object
    # 0.8^3 of 714,688 weights in 32 bits, the mask at up to a bit a weight, and some kilobytes that are not pruned.
    assert told["kept"] == 365_920
    assert told["file_bytes"] == file_bytes < told["limit_bytes"] < told["dense_bytes"]
    assert 4 * 365_920 < told["limit_bytes"] < 4 * 365_920 + 714_688 / 8 + 4 * 20_000
    shown = call("show", str(tmp_path / "ticket")).out
    assert f"ticket file: {file_bytes:,} bytes; dense {told['dense_bytes']:,}; a mask at its entropy" in shown


def test_show_of_two_tickets_compares_their_masks(tmp_path: Path, ladder: Ladder, call: Any) -> None:
    a, b = (str(lottery_hub.save_ticket(ladder.ticket(level), tmp_path / str(level))) for level in (1, 3))
    told = call("show", a, b, "--json").object
    # Levels are nested, so the sparser mask lies inside the other: 0.8^3 of what is kept by either is kept by both.
    assert (told["total"]["one"], told["total"]["shared"]) == (571_750, 365_920)
    assert told["total"]["IoU"] == 365_920 / 571_750
    assert told["total"]["IoU_by_chance"] < told["total"]["IoU"]
    assert len(told["layers"]) == 21
    shown = call("show", a, b).out
    assert "level 1 by omp, 20.00 % sparsity" in shown
    assert re.search(r"total +│ +80\.00 │ +51\.20 │ +0\.640 │ +0\.\d{3} │", shown)
    itself = call("show", a, a, "--json").object
    assert {layer["IoU"] for layer in itself["layers"].values()} == {1.0}
    several = call("show", a, b, a, "--json").object
    share = 365_920 / 571_750
    assert several["IoU"] == [[1, share, 1], [share, 1, share], [1, share, 1]]
    assert several["tickets"] == [f"{a} #1", b, f"{a} #3"]
    assert re.search(r"B +51\.20 +0\.640 \(0\.\d{3}\) +1\.000 \(0\.\d{3}\)", call("show", a, b, a).out)


def test_show_of_two_architectures_is_one_line(tmp_path: Path, ladder: Ladder, call: Any) -> None:
    slim = str(lottery_hub.save_ticket(ladder.ticket(1), tmp_path / "slim"))
    full = Backbone("resnet10t", "std", fresh_weights("resnet10t", 5, 0))
    whole = str(lottery_hub.save_ticket(draw(full, DrawPlan(method="omp", rounds=1)).ticket(1), tmp_path / "full"))
    done = call("show", slim, whole)
    assert (done.code, done.out) == (1, "")
    assert "the tickets belong to different architectures" in done.err


def test_a_deep_network_is_shown_by_blocks_and_stages_and_a_slim_one_by_layers() -> None:
    slim, deep = (prunable_names(skeleton(arch, 1)) for arch in ("resnet18-slim", "resnet50"))
    assert len(grouped(slim)) == len(slim) == 21
    rows = grouped(deep)
    assert list(rows)[:3] == ["conv1", "layer1.0", "layer1.1"]
    assert rows["layer1.1"] == [f"layer1.1.conv{place}.weight" for place in (1, 2, 3)]
    assert sorted(name for group in rows.values() for name in group) == sorted(deep)


# Ctrl-C


@pytest.mark.skipif(os.name != "posix", reason="signals are sent the POSIX way")
def test_an_interrupted_command_says_how_to_go_on(chain: Chain, tmp_path: Path) -> None:
    arguments = [*chain["pretrain"][0], *assignments("recipe.epochs=500"), "--output", str(tmp_path / "run")]
    # Where the tests run in the background, children inherit an interrupt that is ignored.
    program = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {RUN[-1]}"
    command = [*RUN[:-1], program, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        while not list((tmp_path / "run").rglob(CHECKPOINT)):
            assert running.poll() is None
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert out == ""
    kept = f"finished epochs are kept in {tmp_path / 'run'}, and the same command goes on from there"
    assert err.splitlines()[-1] == f"stopped: {kept}"
    assert "Traceback" not in err
