"""What a reference means: a run directory is as good as the folder inside, and a network is the trained one."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models import create_model

from lottery_hub import cli
from lottery_hub.errors import BackboneError, TicketError
from lottery_hub.networks.backbones import Backbone
from lottery_hub.networks.tickets import Ladder, Ticket
from lottery_hub.sharing.publishing import prepare, push_ticket
from lottery_hub.sharing.pulling import load_ladder, load_ticket, pull
from lottery_hub.sharing.references import Which, load_network, load_sparse, named
from lottery_hub.sharing.sources import load_backbone
from lottery_hub.storage.folder import load_ticket as load_folder
from lottery_hub.storage.folder import save_backbone, save_ticket


def trained(run: Path, name: str) -> str:
    return load_folder(run / "ticket" / "trained" / name).fingerprint()


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str]:
    """Call the command line; return its stdout and stderr."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lottery-hub", *words])
        with pytest.raises(SystemExit):
            cli.main()
    return capsys.readouterr()


# Which network


def test_the_network_of_a_judged_ticket_is_the_one_after_adversarial_transfer_with_seed_0(run: Path) -> None:
    for ref in (run, run / "ticket"):
        network = load_network(ref)
        assert network.fingerprint() == trained(run, "ticket-adversarial-seed-0")
        assert named(network) == "after adversarial transfer to stripes, seed 0: 3 classes"


def test_another_network_and_the_ticket_itself_are_asked_for_by_name(run: Path) -> None:
    assert load_network(run, Which("standard", 1)).fingerprint() == trained(run, "ticket-standard-seed-1")
    assert load_network(run, Which(seed=1)).fingerprint() == trained(run, "ticket-adversarial-seed-1")
    itself = load_network(run, Which(itself=True))
    assert itself.fingerprint() == load_folder(run / "ticket").fingerprint()
    assert named(itself) == "with the head of its source task: 5 classes"
    dense = load_network(run / "ticket" / "trained" / "dense-standard-seed-0")
    assert isinstance(dense, Ticket)
    assert dense.sparsity == 0


def test_a_plain_model_of_a_judged_ticket_is_the_trained_network_and_one_to_train_is_the_ticket(run: Path) -> None:
    ticket = load_ticket(run)
    assert ticket.judged
    network = load_folder(run / "ticket" / "trained" / "ticket-adversarial-seed-0")
    for model in (ticket.to_model(), ticket.to_normalised().network):
        assert all(torch.equal(tensor, network.weights[name]) for name, tensor in model.state_dict().items())
    assert len(ticket.to_model(head="pretrained").fc.bias) == 5
    fresh = ticket.to_model(num_classes=4)
    assert len(fresh.fc.bias) == 4
    assert torch.equal(fresh.conv1.weight, ticket.weights["conv1.weight"])
    assert sorted(ticket.networks) == [
        f"{which}-{regime}-seed-{seed}"
        for which in ("dense", "ticket") for regime in ("adversarial", "standard") for seed in (0, 1)
    ]  # fmt: skip


def test_what_was_never_judged_is_itself(ladder: Ladder, tmp_path: Path) -> None:
    place = save_ticket(ladder.ticket(2), tmp_path / "ticket")
    network = load_network(place)
    assert network.fingerprint() == ladder.ticket(2).fingerprint()
    with pytest.raises(TicketError, match="it was not judged and is one network: leave out which is meant"):
        load_network(place, Which("standard"))
    assert isinstance(load_network("resnet18-slim-adv"), Backbone)
    assert isinstance(load_network("resnet18-slim-adv", sparsity=0.8), Ticket)
    with pytest.raises(TicketError, match="say which sparsity you want"):
        load_sparse("resnet18-slim-adv")


def test_a_kind_and_a_checkpoint_are_networks_too(tmp_path: Path) -> None:
    packaged = load_network("std")
    assert packaged.fingerprint() == load_network("resnet18-slim-std").fingerprint()
    torch.save(packaged.weights, tmp_path / "net.pth")
    assert load_network(f"adv:{tmp_path / 'net.pth'}").fingerprint() == packaged.fingerprint()
    with pytest.raises(BackboneError, match="say how a checkpoint was pre-trained"):
        load_network(tmp_path / "net.pth")


def test_contradictory_wishes_are_refused(run: Path) -> None:
    with pytest.raises(TicketError, match="exclude each other"):
        load_network(run, Which("standard", itself=True))
    with pytest.raises(TicketError, match=r"ticket-adversarial-seed-7 is not beside the ticket \(there: dense-"):
        load_network(run, Which(seed=7))


def test_a_network_that_is_not_the_records_or_not_there_is_never_taken_for_it(run: Path, tmp_path: Path) -> None:
    place = shutil.copytree(run / "ticket", tmp_path / "ticket")
    shutil.rmtree(place / "trained" / "ticket-adversarial-seed-0")
    shutil.copytree(place / "trained" / "ticket-standard-seed-0", place / "trained" / "ticket-adversarial-seed-0")
    with pytest.raises(TicketError, match="ticket-adversarial-seed-0 is none of the networks that the records are of"):
        load_ticket(place).to_model()
    shutil.rmtree(place / "trained")
    with pytest.raises(TicketError, match=r"is not beside the ticket \(there: none\); run find again"):
        load_ticket(place).to_model()


# Which folder


def test_a_run_directory_stands_for_what_is_wanted_of_it(run: Path, tmp_path: Path) -> None:
    assert load_ticket(run).fingerprint() == load_folder(run / "ticket").fingerprint()
    ladder = load_ladder(run)  # the ticket stands beside it
    assert ladder.levels == 2
    assert load_backbone(run).fingerprint() == ladder.backbone.fingerprint()
    assert pull(run, wanted="ladder").folder == run / "ladder"
    pretrained = save_backbone(ladder.backbone, tmp_path / "run" / "units" / "pretrain" / "backbone")
    assert load_backbone(tmp_path / "run").fingerprint() == ladder.backbone.fingerprint()
    assert pull(tmp_path / "run").folder == pretrained
    tuned = shutil.copytree(run / "ticket", tmp_path / "tuned" / "units" / "finetune" / "ticket")
    assert pull(tmp_path / "tuned").folder == tuned


def test_a_run_directory_with_the_name_of_a_kind_does_not_stand_for_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run / "ladder", tmp_path / "std" / "ladder")
    assert load_backbone("std").fingerprint() != load_backbone(tmp_path / "std").fingerprint()


def test_a_folder_of_runs_names_them(run: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(run / "ladder", tmp_path / "runs" / name / "ladder")
    with pytest.raises(TicketError, match=r"no ticket at .*runs, but 2 inside; give one of .*runs/a, .*runs/b$"):
        load_ticket(tmp_path / "runs")


# What is published and exported, and what a person is told


def test_the_copy_for_timm_is_the_trained_network_and_the_repository_is_still_the_ticket(
    run: Path, tmp_path: Path
) -> None:
    published = tmp_path / "published"
    for name, content in prepare(run / "ticket", "alice/net").files.items():
        (published / name).parent.mkdir(parents=True, exist_ok=True)
        (published / name).write_bytes(content)
    network = load_folder(run / "ticket" / "trained" / "ticket-adversarial-seed-0")
    model = create_model(f"local-dir:{published}", pretrained=True)
    assert all(torch.equal(tensor, network.weights[name]) for name, tensor in model.state_dict().items())
    config = json.loads((published / "config.json").read_text(encoding="utf-8"))
    assert (config["num_classes"], config["lottery_hub"]["num_classes"]) == (3, 5)
    assert load_folder(published).fingerprint() == load_folder(run / "ticket").fingerprint()
    deployed = {"ticket-adversarial-seed-0", "ticket-standard-seed-0"}
    assert {path.name for path in (published / "trained").iterdir()} == deployed
    assert load_network(published).fingerprint() == network.fingerprint()
    # A copy of it has them too, and can be replaced by a newer one.
    copy = pull(published, local_dir=tmp_path / "copy").folder
    assert {path.name for path in (copy / "trained").iterdir()} == deployed
    assert pull(run, local_dir=copy).folder == copy


def test_without_its_network_there_is_no_copy_for_timm(run: Path, tmp_path: Path) -> None:
    place = shutil.copytree(run / "ticket", tmp_path / "ticket")
    shutil.rmtree(place / "trained")
    with pytest.raises(TicketError, match=r"or push without the copy for timm \(--no-timm\)"):
        prepare(place, "alice/net")
    assert "model.safetensors" not in prepare(place, "alice/net", timm=False).files


def test_a_ticket_in_memory_is_published_with_its_networks(run: Path) -> None:
    files = push_ticket(load_ticket(run), "alice/net", checks=False, dry_run=True).files
    assert "trained/ticket-adversarial-seed-0/ticket.safetensors" in files


def test_the_commands_take_a_run_directory_and_say_which_network_it_is(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = call(capsys, "export", str(run), "--format", "timm", "--output", str(tmp_path / "net"), "--json")
    told: dict[str, Any] = json.loads(out)
    assert (told["num_classes"], told["network"]) == (3, "after adversarial transfer to stripes, seed 0: 3 classes")
    words = ["--format", "safetensors-dense", "--output", str(tmp_path / "net.safetensors"), "--seed", "1", "--json"]
    out, _ = call(capsys, "export", str(run), *words, "--regime", "standard")
    assert json.loads(out)["network"] == "after standard transfer to stripes, seed 1: 3 classes"
    out, _ = call(capsys, "show", str(run))
    assert "trained networks: dense-standard-seed-0, " in out
    assert "--regime" in out
    _, problem = call(capsys, "export", str(run), *words, "--ticket")
    assert "exclude each other" in problem
