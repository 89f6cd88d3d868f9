"""Draw results of evaluate.py: one sequence, regret by source and predictor, regret over time; and the sources.

python -m nonstationary.plot --what sequence results/nonstationary/net_lstm_ptw_ptw_256.json
python -m nonstationary.plot --what bars results/nonstationary/*.json
python -m nonstationary.plot --what partitions
"""

import argparse
from pathlib import Path

from matplotlib.figure import Figure

from common.command_line import OneLineParser, natural_int, png_path, positive_int, run_script
from nonstationary.pictures import draw_bars, draw_curves, draw_partitions, draw_sequence, save
from nonstationary.result_files import RESULTS, read_results

PICTURES = ("sequence", "bars", "curves", "partitions")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    add = parser.add_argument
    add("--what", choices=PICTURES, required=True, help="the picture")
    add("results", type=Path, nargs="*", metavar="RESULT.json", help="files written by evaluate.py; partitions: none")
    told = f"the picture's file (default: {RESULTS}/figures/<what>_<first result>.png)"
    add("--fn_out_plot", type=png_path, metavar="PATH.png", help=told)
    add("--seq_length", type=positive_int, default=256, metavar="T", help="partitions: steps of a sequence")
    add("--seed", type=natural_int, default=1, help="partitions: of the sequences")
    args = parser.parse_args()
    if (args.what == "partitions") == bool(args.results):
        parser.error("partitions takes no result files, every other picture one or more")
    return args


def draw(args: argparse.Namespace) -> Figure:
    """Draw what the command line asks for.

    Raises:
        ValueError: if the result files cannot be read, or not be put into one picture.
    """
    if args.what == "partitions":
        return draw_partitions(args.seq_length, args.seed)
    results = read_results(args.results)
    if args.what == "sequence":
        if len(results) > 1:
            raise ValueError(f"--what sequence draws one result file, found {len(results)}")
        return draw_sequence(results[0])
    return (draw_bars if args.what == "bars" else draw_curves)(results)


def main() -> None:
    """Draw a picture."""
    args = parse_arguments()
    stem = f"_{args.results[0].stem}" if args.results else ""
    path = args.fn_out_plot or RESULTS / "figures" / f"{args.what}{stem}.png"
    save(draw(args), path)
    print(f"written to {path}")


if __name__ == "__main__":
    run_script(main)
