"""OpenAI's UNet in the names of diffusers' UNet2DModel, block by block.

Both are the same function: names map one to one, apart from the attention's one matrix of queries, keys and values,
whose rows lie head by head (q, k, v of each), or with use_new_attention_order all queries, all keys, all values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ..errors import BundleError
from .flags import Flags

__all__ = ("Part", "configuration", "parts")

GROUPS = 32  # of every group norm
RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}


class Part(NamedTuple):
    """One layer, or with `qkv` the three that an attention's first one becomes."""

    theirs: str
    ours: tuple[str, ...]
    heads: int = 0  # of qkv


def configuration(flags: Flags) -> dict[str, Any]:
    """Arguments of UNet2DModel. Raises BundleError for a network that it cannot hold."""
    if flags.class_cond:
        raise BundleError(
            "flags: class_cond: expected False, since a class-conditional network (label_emb.weight) needs the label "
            "that is to be found out; got True"
        )
    if flags.channel_mult[0] != 1:
        raise BundleError(
            f"flags: channel_mult: expected one that begins with 1, got {flags.channel_mult[0]:g}: diffusers' "
            "UNet2DModel makes the timestep's embedding as wide as the first level"
        )
    widths = _widths(flags)
    attended = _attended(flags)
    with_heads = {widths[-1], *(width for width, has in zip(widths, attended, strict=True) if has)}
    resampling = "resnet" if flags.resblock_updown else "conv"
    plain = (
        ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D") if flags.resblock_updown else ("DownBlock2D", "UpBlock2D")
    )
    return {
        "sample_size": flags.image_size,
        "in_channels": 3,
        "out_channels": 6 if flags.learn_sigma else 3,
        "block_out_channels": widths,
        "layers_per_block": flags.num_res_blocks,
        "down_block_types": tuple("AttnDownBlock2D" if has else plain[0] for has in attended),
        "up_block_types": tuple("AttnUpBlock2D" if has else plain[1] for has in reversed(attended)),
        "downsample_type": resampling,
        "upsample_type": resampling,
        "attention_head_dim": _head_width(flags, with_heads),
        "norm_num_groups": GROUPS,
        "attn_norm_num_groups": GROUPS,
        "resnet_time_scale_shift": "scale_shift" if flags.use_scale_shift_norm else "default",
        "flip_sin_to_cos": True,
        "freq_shift": 0,
    }  # fmt: skip


def _widths(flags: Flags) -> tuple[int, ...]:
    widths = tuple(int(multiple * flags.num_channels) for multiple in flags.channel_mult)
    for width in widths:
        if width < 1 or width % GROUPS:
            raise BundleError(
                f"flags: num_channels: expected levels of a multiple of {GROUPS} channels, as the group norms need, "
                f"got {', '.join(map(str, widths))}"
            )
    halvings = 2 ** (len(widths) - 1)
    if flags.image_size % halvings:
        raise BundleError(
            f"flags: image_size: expected a multiple of {halvings}, for {len(widths)} levels of channel_mult, got "
            f"{flags.image_size}"
        )
    return widths


def _attended(flags: Flags) -> tuple[bool, ...]:
    """Whether a level has attention: attention_resolutions are pixels, as the scripts divide them."""
    rates = {flags.image_size // resolution for resolution in flags.attention_resolutions}
    return tuple(2**level in rates for level in range(len(flags.channel_mult)))


def _head_width(flags: Flags, widths: set[int]) -> int | None:
    """Channels of each head, which diffusers has once for all levels; None = one head, as wide as its level.

    widths: of the levels with attention, and of the middle, which always has it.
    """
    if flags.num_head_channels != -1:
        name, value, heads = "num_head_channels", flags.num_head_channels, 1
        fits = value > 0 and all(width % value == 0 for width in widths)
    else:
        name, value, heads = "num_heads", flags.num_heads, flags.num_heads
        fits = value > 0 and all(width % value == 0 for width in widths)
        if flags.num_heads_upsample not in (-1, heads):
            raise BundleError(
                f"flags: num_heads_upsample: expected {heads}, as num_heads, since diffusers' UNet2DModel has one head "
                f"width for all levels, got {flags.num_heads_upsample}"
            )
    listed = ", ".join(map(str, sorted(widths)))
    if not fits:
        raise BundleError(f"flags: {name}: expected a divisor of the levels' widths {listed}, got {value}")
    if flags.num_head_channels != -1:
        return flags.num_head_channels
    if heads == 1:
        return widths.pop() if len(widths) == 1 else None
    if len(widths) > 1:
        raise BundleError(
            f"flags: num_heads: expected 1, or attention at levels of one width, got {heads} heads over levels of "
            f"{listed} channels: diffusers' UNet2DModel has one head width for all, so it cannot hold them"
        )
    return widths.pop() // heads


def parts(flags: Flags) -> Iterator[Part]:
    """Every layer of the network, by both names."""
    widths, attended = _widths(flags), _attended(flags)
    levels = len(widths)
    yield Part("time_embed.0", ("time_embedding.linear_1",))
    yield Part("time_embed.2", ("time_embedding.linear_2",))
    yield Part("input_blocks.0.0", ("conv_in",))
    number = 1
    for level in range(levels):
        for at in range(flags.num_res_blocks):
            yield from _block(
                flags, f"input_blocks.{number}", f"down_blocks.{level}", at, widths[level], attended[level]
            )
            number += 1
        if level != levels - 1:
            ours = f"down_blocks.{level}.downsamplers.0"
            yield from _resampled(flags, f"input_blocks.{number}.0", ours, conv="op")
            number += 1
    yield from _resnet("middle_block.0", "mid_block.resnets.0")
    yield _qkv(flags, "middle_block.1", "mid_block.attentions.0", widths[-1])
    yield from _attention("middle_block.1", "mid_block.attentions.0")
    yield from _resnet("middle_block.2", "mid_block.resnets.1")
    number = 0
    for up, level in enumerate(reversed(range(levels))):
        for at in range(flags.num_res_blocks + 1):
            theirs = f"output_blocks.{number}"
            yield from _block(flags, theirs, f"up_blocks.{up}", at, widths[level], attended[level])
            if level and at == flags.num_res_blocks:
                yield from _resampled(
                    flags, f"{theirs}.{1 + attended[level]}", f"up_blocks.{up}.upsamplers.0", conv="conv"
                )
            number += 1
    yield Part("out.0", ("conv_norm_out",))
    yield Part("out.2", ("conv_out",))


def _block(flags: Flags, theirs: str, ours: str, at: int, width: int, attended: bool) -> Iterator[Part]:
    yield from _resnet(f"{theirs}.0", f"{ours}.resnets.{at}")
    if attended:
        yield _qkv(flags, f"{theirs}.1", f"{ours}.attentions.{at}", width)
        yield from _attention(f"{theirs}.1", f"{ours}.attentions.{at}")


def _resampled(flags: Flags, theirs: str, ours: str, *, conv: str) -> Iterator[Part]:
    if flags.resblock_updown:
        yield from _resnet(theirs, ours)
    else:
        yield Part(f"{theirs}.{conv}", (f"{ours}.conv",))


def _resnet(theirs: str, ours: str) -> Iterator[Part]:
    """With a shortcut that is there where the width changes."""
    for name, other in RESNET.items():
        yield Part(f"{theirs}.{name}", (f"{ours}.{other}",))


def _qkv(flags: Flags, theirs: str, ours: str, width: int) -> Part:
    heads = width // flags.num_head_channels if flags.num_head_channels != -1 else flags.num_heads
    if flags.use_new_attention_order:
        heads = 1  # all queries, all keys, all values: as of one head
    return Part(f"{theirs}.qkv", (f"{ours}.to_q", f"{ours}.to_k", f"{ours}.to_v"), heads)


def _attention(theirs: str, ours: str) -> Iterator[Part]:
    yield Part(f"{theirs}.norm", (f"{ours}.group_norm",))
    yield Part(f"{theirs}.proj_out", (f"{ours}.to_out.0",))
