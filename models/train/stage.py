"""One optimisation run: AdamW, an average of the weights, checkpoints, live figures, several devices.

Stopped and started again it goes on from its last checkpoint, to the same weights as if it had not been stopped: a
step's randomness is named by (label, seed, step, process).
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import CertifyError
from ..files import whole_file
from .config import Optimisation, PhotoConfig
from .muon import build_optimizer

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = (
    "CheckpointError",
    "Losses",
    "Stage",
    "by_one_process",
    "fields_of",
    "log",
    "make_accelerator",
    "run_stage",
    "save_checkpoint",
)

FORMAT = 1  # of a checkpoint

# A batch's means by name: "total" is what is minimised, the others are for the eye.
Losses = Mapping[str, Tensor]


class CheckpointError(CertifyError):
    """A checkpoint belongs to another run; the message says what differs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """What is optimised, how, and where it is kept."""

    label: str  # of the bar and of the random numbers
    config: Optimisation
    trained: nn.Module  # on the accelerator's device; it ends as its average
    # The losses of one random batch. Its argument is `trained`, wrapped when there are several devices.
    losses_of: Callable[[nn.Module], Losses]
    path: Path | None  # of the checkpoint; None = none is kept
    identity: Mapping[str, Any]  # whatever the weights depend on; a checkpoint with another one is refused
    progress: bool = True  # a bar on standard error
    after_step: Callable[[int, Losses], None] | None = None  # of the number of steps done and the last one's losses


def make_accelerator(config: Optimisation) -> Accelerator:
    """For the GPU where there is one, and for every process that `accelerate launch` has started."""
    from accelerate import Accelerator

    return Accelerator(cpu=not torch.cuda.is_available(), mixed_precision=config.mixed_precision)


def fields_of(config: Optimisation | PhotoConfig, *besides: str) -> dict[str, Any]:
    """A stage's identity: what its weights depend on of a run's settings, all but NOT_TRAINING and `besides`."""
    left_out = {*config.NOT_TRAINING, *besides}
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in left_out}


def by_one_process(write: Callable[[], None]) -> None:
    """Call `write` in one of the processes that train together; the others wait for it."""
    from accelerate import PartialState

    state = PartialState()
    if state.is_main_process:
        write()
    state.wait_for_everyone()


def log(line: str) -> None:
    """One line with the time on standard error, flushed, so that a run in the background can be watched."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')}  {line}\n")
    sys.stderr.flush()


def run_stage(stage: Stage, accelerator: Accelerator) -> None:
    """Train stage.trained in place. Raises CheckpointError if another run's checkpoint is at stage.path."""
    from tqdm import tqdm

    config, trained = stage.config, stage.trained
    if config.mixed_precision == "bf16":
        # Where bfloat16 convolutions have units of their own: 1.3 times as fast on a CPU with AMX, more on a GPU.
        trained.to(memory_format=torch.channels_last)
    parameters = [p for p in trained.parameters() if p.requires_grad]
    average = [p.detach().clone() for p in parameters]
    optimizer = build_optimizer(parameters, config)
    done = _resume(stage, average, optimizer)
    running, optimizer = accelerator.prepare(trained, optimizer)
    bar = tqdm(
        range(done, config.steps), stage.label, config.steps, initial=done, unit="step",
        disable=not (stage.progress and accelerator.is_main_process),
    )  # fmt: skip
    for step in bar:
        losses = _step(stage, step, accelerator, running, optimizer, parameters, average)
        if step % 10 == 0 or step + 1 == config.steps:
            bar.set_postfix({name: f"{value.item():.4f}" for name, value in losses.items()}, refresh=False)
        if stage.after_step is not None and accelerator.is_main_process:
            stage.after_step(step + 1, losses)
        if accelerator.is_main_process and ((step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps):
            save_checkpoint(stage, step + 1, average, optimizer)
    with torch.no_grad():
        for parameter, mean in zip(parameters, average, strict=True):
            parameter.copy_(mean)
    trained.to(memory_format=torch.contiguous_format)  # safetensors refuses any other


def _step(
    stage: Stage, step: int, accelerator: Accelerator, running: nn.Module, optimizer: Any,
    parameters: list[nn.Parameter], average: list[Tensor],
) -> Losses:  # fmt: skip
    """One step of the optimizer and of the average."""
    config = stage.config
    torch.manual_seed(_seed(stage.label, config.seed, step, accelerator.process_index))
    with accelerator.autocast():
        losses = stage.losses_of(running)
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
    return losses


def save_checkpoint(stage: Stage, step: int, average: list[Tensor], optimizer: torch.optim.Optimizer) -> None:
    """Whole or not at all: an interrupted write must not spoil the checkpoint before it."""
    if stage.path is None:
        return
    state = {
        "identity": _identity(stage),
        "step": step,
        "trained": stage.trained.state_dict(),
        "average": average,
        "optimizer": optimizer.state_dict(),
    }
    with whole_file(stage.path) as fresh:
        torch.save(state, fresh)


def _identity(stage: Stage) -> dict[str, Any]:
    """As numbers and text, which torch reads back without unpickling anything."""
    facts = {"format": FORMAT, **stage.identity}
    return {name: repr(value) if isinstance(value, dict | tuple) else value for name, value in facts.items()}


def _resume(stage: Stage, average: list[Tensor], optimizer: torch.optim.Optimizer) -> int:
    """Steps done so far: 0 without a checkpoint."""
    path = stage.path
    if path is None or not path.exists():
        return 0
    state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    ours, saved = _identity(stage), state.get("identity", {})
    if different := [f"{k}: expected {v!r}, got {saved.get(k)!r}" for k, v in ours.items() if v != saved.get(k)]:
        raise CheckpointError(f"{path} is of another run ({'; '.join(different)}); delete it or name another --work")
    stage.trained.load_state_dict(state["trained"])
    for mean, stored in zip(average, state["average"], strict=True):
        mean.copy_(stored)
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _rate(step: int, config: Optimisation) -> float:
    """Linear warm-up, then a cosine to config.rate_floor; shares of the learning rate."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / config.steps))
    return min(1.0, (step + 1) / config.warmup_steps) * (config.rate_floor + (1 - config.rate_floor) * cosine)


def _seed(label: str, seed: int, step: int, process: int) -> int:
    digest = hashlib.sha256(f"{label}:{seed}:{step}:{process}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1  # torch takes int64
