"""An engine by its name: one row each."""

from __future__ import annotations

import torch

from lottery_hub.errors import ConfigError, printable
from lottery_hub.running.engines import Engine, Local

ENGINES = ("local", "ray")


def engine_of(name: str, device: torch.device | str, jobs: int) -> Engine:
    """Return an engine by its name.

    Args:
        name: one of `ENGINES`.
        device: what units compute on.
        jobs: units at a time on this machine; they share its threads, or a GPU. A cluster runs as many as it has
            room for, of the same size.

    Raises:
        ConfigError: there is no such engine, or it is not installed.
    """
    if type(jobs) is not int or jobs < 1:
        raise ConfigError(f"jobs are a number from 1, or auto, not {printable(repr(jobs))}")
    local = Local.of(device, jobs)
    if name == "local":
        return local
    if name != "ray":
        raise ConfigError(f"unknown engine {printable(repr(name))}; choose {' or '.join(ENGINES)}")
    try:
        from lottery_hub.running.on_ray import OnRay
    except ImportError as problem:
        raise ConfigError("Ray is not installed; it comes with: pip install 'lottery-hub[cluster]'") from problem
    return OnRay(torch.device(device), local.threads, at_a_time=jobs)
