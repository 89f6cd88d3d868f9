"""Draw results of evaluate.py: one sequence, regret by source and predictor, regret over time; and the sources.

python -m nonstationary.plot --what sequence out_models/nonstationary/net_lstm_ptw_ptw_256.json
python -m nonstationary.plot --what bars out_models/nonstationary/*.json
python -m nonstationary.plot --what partitions

A picture is not replaced by a different one, unless --overwrite is given.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from common.command_line import OneLineParser, natural_int, png_path, positive_int, run_script
from common.errors import UserError
from nonstationary.result_files import RESULTS, Result, counted, read_results, setting


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    add = parser.add_argument
    add("--what", choices=("sequence", "bars", "curves", "partitions"), required=True, help="the picture")
    add("results", type=Path, nargs="*", metavar="RESULT.json", help="files written by evaluate.py; partitions: none")
    help_text = f"the picture's file (default: {RESULTS}/figures/<what>_<first result>.png)"
    add("--fn_out_plot", type=png_path, metavar="PATH.png", help=help_text)
    add("--overwrite", action="store_true", help="replace a different picture of that name")
    add("--seq_length", type=positive_int, default=256, metavar="T", help="partitions: steps of a sequence")
    add("--seed", type=natural_int, default=1, help="partitions: of the sequences")
    args = parser.parse_args()
    if (args.what == "partitions") == bool(args.results):
        parser.error("partitions takes no result files, every other picture one or more")
    if args.what == "sequence" and len(args.results) > 1:
        parser.error(f"--what sequence draws one result file, found {len(args.results)}")
    return args


def check_comparable(results: Sequence[Result]) -> None:
    """Raise UserError, naming two files and how they differ, if results cannot stand side by side."""
    first, wanted = results[0]["path"], setting(results[0])
    for one in results:
        for name, value in setting(one).items():
            if value != wanted[name]:
                told = f"{name} is {value} in {one['path']}, {wanted[name]} in {first}"
                raise UserError(f"{told}; give results of one kind only")


def main() -> None:
    """Draw a picture."""
    from nonstationary import pictures  # here alone: matplotlib takes long

    args = parse_arguments()
    results = read_results(args.results) if args.results else []
    if args.what == "partitions":
        figure = pictures.draw_partitions(args.seq_length, args.seed)
    elif args.what == "sequence":
        figure = pictures.draw_sequence(results[0])
    elif args.what == "curves":
        figure = pictures.draw_curves(results)
    else:
        results, left_out = counted(results)
        print("".join(f"left out: {reason}\n" for reason in left_out), end="")
        if not results:
            raise UserError("none of these results counts; train the networks to their end")
        check_comparable(results)
        figure = pictures.draw_bars(results)
    stem = f"_{args.results[0].stem}" if args.results else ""
    path = args.fn_out_plot or RESULTS / "figures" / f"{args.what}{stem}.png"
    pictures.save(figure, path, args.overwrite)
    print(f"written to {path}")


if __name__ == "__main__":
    run_script(main)
