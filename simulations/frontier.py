"""How much accuracy do how many bytes buy? Each method, partition and seed is a run; each finished run is a row.

::

    python -m simulations.frontier run --out RUNS [--partitions dirichlet] [--methods float32 stc-1] [--seeds 0 1 2]
    python -m simulations.frontier report --out RUNS

Runs that are finished are not done again, and one that was broken off goes on after its last round. `docs/frontier.md`
tells what came out.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedcomp.codecs import PRESETS
from fedcomp.reporting import draw_frontier, mean_and_spread, update_rows
from fedcomp.simulation.grid_of_runs import GridOfRuns
from simulations.grid_arguments import grid_parser

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONFIGS = Path(__file__).parent.parent / "configs"
PARTITIONS = ("dirichlet", "iid", "scarce")

_STATELESS = ("residual-decay=0.0",)
_ULTRA = "codec=ultra"
_BLIND, _WIDE = (f"codec={PRESETS['ultra'].replace(')', f', directions={count})', 1)}" for count in (0, 32))
_DOWN = "downlink=lowrank(rank=32, directions=32) | deadzone(step=1.0)"
_BOTH = (_ULTRA, "uplink-budget-bytes=3300", _DOWN, "downlink-budget-bytes=40000")

METHODS: dict[str, tuple[str, ...]] = {
    # What others send.
    "float32": ("codec=none",),
    "fedpaq-8": ("codec=uniform(bits=8, stochastic=true)", *_STATELESS),
    "fedpaq-4": ("codec=uniform(bits=4, stochastic=true)", *_STATELESS),
    "qsgd": ("codec=uniform(bits=2, stochastic=true, scale=block, block=512)", *_STATELESS),
    "eden-1": ("codec=rotate | eden(bits=1, unbiased=true)", *_STATELESS),
    "stc-1": ("codec=topk(density=0.01) | ternary", "shared-initial=false"),
    "stc-0.25": ("codec=topk(density=0.0025) | ternary", "shared-initial=false"),
    "topk-1": ("codec=topk(density=0.01) | float32", "shared-initial=false"),
    # The presets, without references.
    "q8": ("codec=q8", *_STATELESS),
    "q4": ("codec=q4", *_STATELESS),
    "q4-feedback": ("codec=q4",),
    "thin": ("codec=thin", "shared-initial=false"),
    "ultra": (_ULTRA, "shared-initial=false"),
    # With all that both ends hold, to a budget, and with a compressed downlink.
    "known-1000": (_ULTRA, "uplink-budget-bytes=1000"),
    "known-3300": (_ULTRA, "uplink-budget-bytes=3300"),
    "known-8000": (_ULTRA, "uplink-budget-bytes=8000"),
    "both-1000": (_ULTRA, "uplink-budget-bytes=1000", _DOWN, "downlink-budget-bytes=12000"),
    "both-3300": (_ULTRA, "uplink-budget-bytes=3300", _DOWN, "downlink-budget-bytes=40000"),
    "both-8000": (_ULTRA, "uplink-budget-bytes=8000", _DOWN, "downlink-budget-bytes=40000"),
    "both-13000": (_ULTRA, "uplink-budget-bytes=13000", _DOWN, "downlink-budget-bytes=40000"),
    # Ablation of `both-3300`.
    "growing-3300": (*_BOTH, "budget-growth=10.0"),
    "falling-3300": (*_BOTH, "budget-growth=0.2"),
    "weighted-3300": (*_BOTH, "budget-by-weight=1.0"),
    "weighted-1.5-3300": (*_BOTH, "budget-by-weight=1.5"),
    "wide-3300": (*_BOTH, "budget-by-weight=1.0", _WIDE),
    "up-3300": (_ULTRA, "uplink-budget-bytes=3300", "budget-by-weight=1.0", "downlink=q8"),
    "no-context-3300": (*_BOTH, "shared-initial=false", _BLIND),
    "no-feedback-3300": (*_BOTH, *_STATELESS),
    "balanced-3300": (*_BOTH, f"codec=balance(power=0.5) | {PRESETS['ultra']}"),
    "sparse-3300": (*_BOTH, "codec=topk(density=0.0025) | ternary"),
    "priced-3300": (*_BOTH, "codec=topk(density=0.0025, price=0.04) | ternary"),
}
"""What each method changes in the configuration of a partition."""


def runs_in(out: Path) -> GridOfRuns:
    """Return the runs in a folder."""
    return GridOfRuns(out, _CONFIGS, prefix="frontier-")


def rows(out: Path) -> Iterator[dict[str, Any]]:
    """Yield a row for each finished run, with what it sent over what plain arrays take."""
    for partition in PARTITIONS:
        for method in METHODS:
            for _, summary in runs_in(out).finished(partition, method):
                dense = summary["dense_uplink_bytes"] + summary["dense_downlink_bytes"]
                yield {
                    "partition": partition,
                    "method": method,
                    "seed": summary["seed"],
                    "codec": summary["codec"],
                    "downlink": summary["downlink"],
                    "accuracy_last10": summary["accuracy_last10"],
                    "uplink_bytes": summary["uplink_bytes"],
                    "downlink_bytes": summary["downlink_bytes"],
                    "times_up": summary["dense_uplink_bytes"] / summary["uplink_bytes"],
                    "times_both": dense / (summary["uplink_bytes"] + summary["downlink_bytes"]),
                    "rejected": summary["updates_rejected"],
                }


def report(out: Path, docs: Path) -> None:
    """Add the rows to those in `docs`, print a table of means and draw the curves."""
    found = update_rows(docs / "frontier.jsonl", rows(out), key=("partition", "method", "seed"))
    print("| partition | method | seeds | accuracy | to float32 | times fewer up | times fewer both ways |")
    print("|---|---|---|---|---|---|---|")
    for partition in PARTITIONS:
        of_method = {m: [r for r in found if (r["partition"], r["method"]) == (partition, m)] for m in METHODS}
        reference = {row["seed"]: 100 * row["accuracy_last10"] for row in of_method["float32"]}
        for method, own in of_method.items():
            if not own:
                continue
            mean, spread = mean_and_spread([100 * row["accuracy_last10"] for row in own])
            # Of the same seeds: seeds differ by more than methods do.
            pairs = [100 * row["accuracy_last10"] - reference[row["seed"]] for row in own if row["seed"] in reference]
            away = f"{mean_and_spread(pairs)[0]:+.2f}" if pairs else ""
            up, both = (mean_and_spread([row[key] for row in own])[0] for key in ("times_up", "times_both"))
            ratios = f"{up:,.0f} | {both:,.1f}"
            print(f"| {partition} | {method} | {len(own)} | {mean:.2f} ± {spread:.2f} | {away} | {ratios} |")
    draw_frontier(found, docs / "img" / "frontier.svg")


def main() -> None:
    """Run the grid, or report what there is of it."""
    parser = grid_parser(__doc__)
    parser.add_argument("--partitions", nargs="+", default=PARTITIONS, choices=PARTITIONS)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    arguments = parser.parse_args()
    if arguments.command == "report":
        report(arguments.out, arguments.docs)
        return
    for seed in arguments.seeds:
        for partition in arguments.partitions:
            for method in arguments.methods:
                overrides = [*METHODS[method], *arguments.set]
                runs_in(arguments.out).run(partition, method, seed, overrides, num_workers=arguments.workers)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main()
