"""The figures of `make bench` as one picture, PNG and SVG."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from benchmarks.answers import REFERENCE
from benchmarks.report import progress
from certify.service.research.figures import save_figure

__all__ = ("draw",)

OURS, THEIRS = "tab:blue", "tab:gray"


def draw(figures: dict[str, Any], out: Path) -> list[Path]:
    """A panel for each part that was measured; nothing is written if there is none."""
    import matplotlib

    matplotlib.use("agg")  # files only: no display is looked for
    from matplotlib import pyplot

    panels = [(name, panel) for name, panel in PANELS.items() if figures.get(name)]
    if not panels:
        return []
    figure, axes = pyplot.subplots(1, len(panels), figsize=(5.2 * len(panels), 4), layout="constrained", squeeze=False)
    for (name, panel), where in zip(panels, axes[0], strict=True):
        panel(figures[name], where)
    figure.suptitle(f"{figures['machine']['processor']}, {figures['machine']['cores']} cores", fontsize="small")
    written = save_figure(figure, out)
    for path in written:
        progress(f"wrote {path}")
    return written


def _throughput(figures: dict[str, Any], axes: Any) -> None:
    """As ratios, so that a fast and a slow bundle fit one linear axis."""
    for place, f in enumerate(figures.values()):
        middle = statistics.median(f["ratios"])
        around = [[middle - min(f["ratios"])], [max(f["ratios"]) - middle]]
        below = axes.bar(place - 0.2, 1.0, 0.4, color=THEIRS, label="" if place else "reference loop, its best batch")
        bar = axes.bar(place + 0.2, middle, 0.4, color=OURS, yerr=around, label="" if place else "default engine")
        axes.bar_label(below, [f"{f['reference_rate']:,.0f}/s"], fontsize="small", label_type="center", color="white")
        axes.bar_label(
            bar, [f"{middle:.1f}x\n{f['rate']:,.0f}/s"], fontsize="small", label_type="center", color="white"
        )
    axes.set_xticks(range(len(figures)), [f"{name}\n{f['engine']}, {f['dtype']}" for name, f in figures.items()])
    axes.set_ylabel("samples a second, of the reference loop's")
    axes.margins(y=0.25)
    axes.legend(fontsize="small", loc="upper left")


def _answers(figures: dict[str, Any], axes: Any) -> None:
    """Points, since a logarithmic axis has no zero for a bar to stand on."""
    names: list[str] = []
    for bundle, f in figures.items():
        for name, row in f["rows"].items():
            reference = name == REFERENCE
            names.append(f"{bundle}, {name}" if reference else f"{bundle}, {name} ({row['gain']:.0f}x faster)")
            axes.plot(row["seconds"], len(names) - 1, "o", color=THEIRS if reference else OURS)
    axes.set_yticks(range(len(names)), names, fontsize="small")
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("seconds of an answer, mean")
    axes.grid(alpha=0.3, axis="x")


def _clients(figures: dict[str, Any], axes: Any) -> None:
    for (backend, by_count), color in zip(figures["backends"].items(), (OURS, "tab:orange"), strict=False):
        counts = [int(count) for count in by_count]
        for key, style in (("p50", "o-"), ("p95", "o--")):
            medians = [statistics.median(f[key]) for f in by_count.values()]
            axes.plot(counts, medians, style, color=color, label=f"{backend}, {key}")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_xlabel(f"clients (radius {figures['radius']})")
    axes.set_ylabel("seconds to an answer")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


PANELS = {"throughput": _throughput, "answers": _answers, "clients": _clients}
