"""One optimisation run of one network: AdamW, an average of the weights, checkpoints, live figures, several devices.

Stopped and started again it goes on from its last checkpoint, to the same weights as if it had not been stopped: a
step's randomness is named by (label, seed, step, process).
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .config import Optimisation

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ("CheckpointError", "make_accelerator", "run_stage", "save_checkpoint")

FORMAT = 1  # of a checkpoint

# A batch's means by name: "total" is what is minimised, the others are for the eye.
Losses = Mapping[str, Tensor]


class CheckpointError(Exception):
    """A checkpoint belongs to another run; the message says what differs."""


def make_accelerator(config: Optimisation) -> Accelerator:
    from accelerate import Accelerator

    return Accelerator(cpu=not torch.cuda.is_available(), mixed_precision=config.mixed_precision)


def run_stage(
    label: str,
    config: Optimisation,
    accelerator: Accelerator,
    trained: nn.Module,
    losses_of: Callable[[nn.Module], Losses],
    path: Path,
    identity: Mapping[str, Any],
    *,
    progress: bool = True,
) -> None:
    """Train `trained`, on the accelerator's device, in place; it ends as its average.

    losses_of(running): the losses of one random batch, where `running` is `trained`, wrapped when there are several
    devices. path: of the checkpoint. identity: whatever the run depends on, of JSON's types; a checkpoint with another
    one raises CheckpointError.
    """
    from tqdm import tqdm

    if config.mixed_precision == "bf16":
        # Where bfloat16 convolutions have units of their own: 1.3 times as fast on a CPU with AMX, more on a GPU.
        trained.to(memory_format=torch.channels_last)
    parameters = [p for p in trained.parameters() if p.requires_grad]
    average = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    identity = {"format": FORMAT, **identity}
    done = _resume(path, identity, trained, average, optimizer)
    running, optimizer = accelerator.prepare(trained, optimizer)
    bar = tqdm(
        range(done, config.steps), label, config.steps, initial=done, unit="step",
        disable=not (progress and accelerator.is_main_process),
    )  # fmt: skip
    for step in bar:
        torch.manual_seed(_seed(label, config.seed, step, accelerator.process_index))
        with accelerator.autocast():
            losses = losses_of(running)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _rate(step, config)
        optimizer.zero_grad()
        accelerator.backward(losses["total"])
        accelerator.clip_grad_norm_(parameters, config.grad_clip)
        optimizer.step()
        with torch.no_grad():
            # Its own warm-up lets a short run's average leave the start.
            decay = min(config.ema, (1 + step) / (10 + step))
            torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - decay)
        if step % 10 == 0 or step + 1 == config.steps:
            bar.set_postfix({name: f"{value.item():.4f}" for name, value in losses.items()}, refresh=False)
        if accelerator.is_main_process and ((step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps):
            save_checkpoint(path, identity, step + 1, trained, average, optimizer)
    with torch.no_grad():
        for parameter, mean in zip(parameters, average, strict=True):
            parameter.copy_(mean)
    trained.to(memory_format=torch.contiguous_format)  # safetensors refuses any other


def save_checkpoint(
    path: Path, identity: Mapping[str, Any], step: int, trained: nn.Module, average: list[Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:  # fmt: skip
    """Whole or not at all: an interrupted write must not spoil the checkpoint before it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".fresh")
    state = {
        "identity": dict(identity),
        "step": step,
        "trained": trained.state_dict(),
        "average": average,
        "optimizer": optimizer.state_dict(),
    }
    torch.save(state, fresh)
    os.replace(fresh, path)


def _resume(
    path: Path, identity: Mapping[str, Any], trained: nn.Module, average: list[Tensor], optimizer: torch.optim.Optimizer
) -> int:
    """Steps done so far: 0 without a checkpoint."""
    if not path.exists():
        return 0
    state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    theirs = state.get("identity", {})
    if different := [f"{k}: expected {v!r}, got {theirs.get(k)!r}" for k, v in identity.items() if v != theirs.get(k)]:
        raise CheckpointError(f"{path} is of another run ({'; '.join(different)}); delete it or name another --work")
    trained.load_state_dict(state["trained"])
    for mean, stored in zip(average, state["average"], strict=True):
        mean.copy_(stored)
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _rate(step: int, config: Optimisation) -> float:
    """Linear warm-up, then a cosine to 0."""
    return min(1.0, (step + 1) / config.warmup_steps) * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def _seed(label: str, seed: int, step: int, process: int) -> int:
    digest = hashlib.sha256(f"{label}:{seed}:{step}:{process}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1  # torch takes int64
