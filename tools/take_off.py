"""Count in learning curves which runs took off: a line a folder.

    python -m tools.take_off results/me/*.csv results/me_curves/*/*.csv

takes the .csv that train.py writes beside a network. A run has taken off at the first line from which its
ValAccGeneralize stays at 99 % or above to the curve's end. Their share has its 95 % interval (Wilson's). The last
number is that of the runs with 95 % right, or more, at an episode of one's choice.
"""

import argparse
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.command_line import OneLineParser, positive_int, run_script
from common.errors import UserError
from paper.rates import wilson_interval
from paper.run_results import CurvePoint, read_curve, take_off

NEARLY = 95.0  # percent


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    parser.add_argument("curves", type=Path, nargs="+", metavar="CURVE.csv", help="learning curves")
    parser.add_argument(
        "--at",
        type=positive_int,
        default=5000,
        metavar="EPISODE",
        help="the episode at which runs with 95 %% right are counted",
    )
    return parser.parse_args()


def line_of(curves: Mapping[str, Sequence[CurvePoint]], at: int) -> str:
    """Sum up the runs of a folder."""
    episodes = [take_off(curve) for curve in curves.values()]
    found = [episode for episode in episodes if episode is not None]
    low, high = wilson_interval(len(found), len(episodes))
    text = f"{f'{len(found)} of {len(episodes)}':>9}{f'{low:.0f} to {high:.0f} %':>15}"
    text += f"{f'{statistics.median(found):.0f} ({min(found)} to {max(found)})' if found else '—':>22}"
    ends = [curve[-1].episode for curve in curves.values()]
    text += f"{' to '.join(map(str, sorted({min(ends), max(ends)}))):>15}"
    then = [point.generalize or 0 for curve in curves.values() for point in curve if point.episode == at]
    text += f"{f'{sum(value >= NEARLY for value in then)} of {len(then)}':>14}"
    lost = [
        f"{name} {'—' if curve[-1].generalize is None else f'{curve[-1].generalize:.0f}'}"
        for (name, curve), episode in zip(curves.items(), episodes, strict=True)
        if episode is None
    ]
    return f"{text}   {', '.join(lost)}"


def main() -> None:
    """Read, group by folder, print."""
    args = parse_arguments()
    folders: dict[str, dict[str, Sequence[CurvePoint]]] = defaultdict(dict)
    for path in sorted({*args.curves}, key=lambda path: (path.parent, len(path.name), path.name)):
        curve = read_curve(path)
        if not curve:
            raise UserError(f"{path}: expected rows of a learning curve, found none")
        folders[path.parent.as_posix()][path.stem] = curve
    width = max(map(len, folders))
    header = f"{'took off':>9}{'95 % interval':>15}{'median (range)':>22}{'curves end at':>15}"
    header += f"{f'{NEARLY:.0f} % at {args.at}':>14}"
    print(f"{'':<{width}}{header}   at the end of those that did not, %")
    for folder, curves in folders.items():
        print(f"{folder:<{width}}{line_of(curves, args.at)}")


if __name__ == "__main__":
    run_script(main)
