"""A mask holds in anybody's loop: whatever steps, averages, scales or wraps, pruned weights are exactly 0."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import timm.optim
import torch
import torch.nn.functional as F
from timm.utils import ModelEmaV3
from torch import nn

from lottery_hub.errors import TicketError
from lottery_hub.networks.backbones import Normalised
from lottery_hub.networks.tickets import Ladder, Ticket
from lottery_hub.storage.folder import load_ticket, save_ticket

IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(4) % 3
Make = Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]


@pytest.fixture(scope="module")
def ticket(ladder: Ladder) -> Ticket:
    return ladder.ticket(4)


@pytest.fixture
def model(ticket: Ticket) -> nn.Module:
    return ticket.to_model(num_classes=3)


def revived(ticket: Ticket, model: nn.Module) -> int:
    """How many pruned weights are not 0; one that is -0 counts."""
    found = {name.replace("_orig_mod.", ""): tensor for name, tensor in model.state_dict().items()}
    (place,) = {name.removesuffix("layer4.1.conv2.weight") for name in found if name.endswith("layer4.1.conv2.weight")}
    pruned = [found[place + name][~kept].float().view(torch.int32) for name, kept in ticket.mask.items()]
    return sum(int(bits.count_nonzero()) for bits in pruned)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 2) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(IMAGES), LABELS).backward()
        optimizer.step()


def sgd(parameters: Iterator[nn.Parameter], **how: bool) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True, **how)


def adamw(parameters: Iterator[nn.Parameter], **how: bool) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.05, **how)


def test_without_it_two_steps_revive_what_was_pruned(ticket: Ticket, model: nn.Module) -> None:
    step(model, sgd(model.parameters()))
    assert revived(ticket, model) > 10_000


@pytest.mark.parametrize("how", [{"foreach": False}, {"foreach": True}, {"fused": True}], ids=str)
@pytest.mark.parametrize("make", [sgd, adamw])
def test_pruned_weights_are_0_after_every_step(
    ticket: Ticket, model: nn.Module, make: Any, how: dict[str, bool]
) -> None:
    optimizer = make(model.parameters(), **how)
    ticket.hold_mask(optimizer, model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for _ in range(3):
        step(model, optimizer, 1)
        assert revived(ticket, model) == 0
    moved = [(model.state_dict()[name] != before[name])[kept].float().mean() for name, kept in ticket.mask.items()]
    assert min(moved) > 0.5, "what is kept is trained"


@pytest.mark.parametrize("name", ["lookahead_sgd", "lamb", "lion", "adafactorbv"])
def test_it_holds_in_timms_optimizers(ticket: Ticket, model: nn.Module, name: str) -> None:
    optimizer = timm.optim.create_optimizer_v2(model, opt=name, lr=0.01, weight_decay=0.05)
    ticket.hold_mask(optimizer, model)
    step(model, optimizer, 7)  # Lookahead looks back at every sixth
    assert revived(ticket, model) == 0


def test_it_holds_where_gradients_are_scaled(ticket: Ticket, model: nn.Module) -> None:
    optimizer, scaler = sgd(model.parameters()), torch.amp.GradScaler("cpu")
    ticket.hold_mask(optimizer, model)
    for _ in range(2):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(model(IMAGES), LABELS)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    assert revived(ticket, model) == 0


@pytest.mark.parametrize("foreach", [True, False])
def test_a_moving_average_of_it_is_as_sparse(ticket: Ticket, model: nn.Module, foreach: bool) -> None:
    optimizer = adamw(model.parameters())
    ticket.hold_mask(optimizer, model)
    average = ModelEmaV3(model, decay=0.5, foreach=foreach)
    for _ in range(3):
        step(model, optimizer, 1)
        average.update(model)
    assert revived(ticket, average.module) == 0
    assert ticket.with_weights(average.module).kept_and_total == ticket.kept_and_total


class Compiled(nn.Module):
    """What torch.compile puts around a network, as far as it shows."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._orig_mod = network

    def forward(self, images: torch.Tensor) -> Any:
        return self._orig_mod(images)


WRAPS = [Compiled, nn.DataParallel, lambda network: Normalised(network, (0.5,) * 3, (0.5,) * 3)]


@pytest.mark.parametrize("wrap", WRAPS, ids=["compiled", "parallel", "normalised"])
def test_it_holds_through_what_wraps_the_network(ticket: Ticket, model: nn.Module, wrap: Any) -> None:
    wrapped = wrap(model)
    optimizer = sgd(wrapped.parameters())
    ticket.hold_mask(optimizer, wrapped)
    step(wrapped, optimizer)
    assert revived(ticket, wrapped) == 0


@pytest.mark.slow  # torch takes long to get ready for its first compilation
def test_it_holds_through_torch_compile(ticket: Ticket, model: nn.Module) -> None:
    compiled = torch.compile(model, backend="aot_eager")  # traced whole, without the minutes of making code of it
    optimizer = sgd(compiled.parameters())
    ticket.hold_mask(optimizer, compiled)
    step(compiled, optimizer)
    assert revived(ticket, compiled) == 0


def test_it_holds_in_a_model_that_is_moved_and_made_narrower(ticket: Ticket, model: nn.Module) -> None:
    optimizer = sgd(model.parameters())
    ticket.hold_mask(optimizer, model)
    model.to(torch.bfloat16, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer.zero_grad()
    F.cross_entropy(model(IMAGES.bfloat16()), LABELS).backward()
    optimizer.step()
    assert revived(ticket, model) == 0


def test_it_holds_in_accelerate(ticket: Ticket, model: nn.Module) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2, mixed_precision="bf16")
    model, optimizer = accelerator.prepare(model, sgd(model.parameters()))
    ticket.hold_mask(optimizer, model)
    for _ in range(4):
        with accelerator.accumulate(model):
            accelerator.backward(F.cross_entropy(model(IMAGES), LABELS))
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    assert revived(ticket, accelerator.unwrap_model(model)) == 0
    assert bool((ticket.with_weights(model).weights["fc.bias"] != 0).all())


@pytest.mark.slow  # its import takes long
def test_it_holds_in_lightning(ticket: Ticket, model: nn.Module) -> None:
    lightning = pytest.importorskip("lightning", reason="heavy, and needed by this one test: pip install lightning")

    class Tuned(lightning.LightningModule):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = model

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            return F.cross_entropy(self.network(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            optimizer = sgd(self.parameters())
            ticket.hold_mask(optimizer, self)
            return optimizer

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(IMAGES, LABELS), batch_size=2)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    tuned = Tuned()
    trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", precision="bf16-mixed", **quiet)
    trainer.fit(tuned, loader)
    assert trainer.global_step == 4
    assert revived(ticket, tuned) == 0


def test_it_takes_hold_at_once_and_can_be_let_go(ticket: Ticket, model: nn.Module) -> None:
    optimizer = sgd(model.parameters())
    step(model, optimizer)
    handle = ticket.hold_mask(optimizer, model)
    assert revived(ticket, model) == 0
    handle.remove()
    step(model, optimizer)
    assert revived(ticket, model) > 0


def test_what_was_trained_is_saved_as_a_ticket(ticket: Ticket, model: nn.Module, tmp_path: Any) -> None:
    step(model, sgd(model.parameters()))
    with pytest.raises(TicketError, match=r"[\d,]+ pruned weights are not 0; call ticket.hold_mask"):
        ticket.with_weights(model)
    optimizer = sgd(model.parameters())
    ticket.hold_mask(optimizer, model)
    step(model, optimizer)
    trained = load_ticket(save_ticket(ticket.with_weights(model), tmp_path / "trained"))
    model.eval()
    with torch.no_grad():
        assert torch.equal(trained.to_model().eval()(IMAGES), model(IMAGES))
    assert (trained.mask.keys(), trained.records) == (ticket.mask.keys(), {})


def test_another_network_or_optimizer_is_refused(ticket: Ticket, model: nn.Module) -> None:
    with pytest.raises(TicketError, match=r"takes an optimizer and the model .*, not ResNet and SGD"):
        ticket.hold_mask(model, sgd(model.parameters()))  # type: ignore[arg-type]
    other = ticket.to_model(num_classes=3)
    with pytest.raises(TicketError, match="the optimizer trains none of the model's prunable weights"):
        ticket.hold_mask(sgd(other.parameters()), model)
    both = nn.ModuleList([model, other])
    with pytest.raises(TicketError, match="the ticket's network is there several times"):
        ticket.hold_mask(sgd(both.parameters()), both)
    linear = nn.Linear(2, 2)
    with pytest.raises(TicketError, match=r"is not there \(conv1.weight and others are missing\)"):
        ticket.hold_mask(sgd(linear.parameters()), linear)
    wide = timm.create_model("resnet18", num_classes=3, channels=(8, 16, 32, 64), output_stride=8)
    with pytest.raises(TicketError, match=r"conv1.weight has shape \(8, 64, 3, 3\), the ticket's has \(16, 64, 3, 3\)"):
        ticket.hold_mask(sgd(wide.parameters()), wide)
