"""Put our results beside the paper's: read the result files, draw the pictures, write the report.

    python -m paper.report                                  of the results that come with the code
    python -m paper.report --results_dir my_results         of those that paper.reproduce leaves

writes <results_dir>/RESULTS.md, and the pictures into <results_dir>/figures, and prints the mean of every cell. It
needs no trained network.
"""

import argparse
from pathlib import Path

from common.command_line import OneLineParser, folder_path, run_script
from common.files import save_bytes
from paper.report_text import FIGURES, main_lines, write_report
from paper.run_results import read_results

REPORT = "RESULTS.md"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    help_text = "folder of the result files, and the report's"
    parser.add_argument("--results_dir", type=folder_path, default="results", metavar="DIR", help=help_text)
    return parser.parse_args()


def main() -> None:
    """Read everything, then draw and write."""
    folder: Path = parse_arguments().results_dir
    from paper.report_pictures import draw_pictures  # only now: run_script makes sure that it can be imported

    results = read_results(folder)
    draw_pictures(results, folder / FIGURES)
    save_bytes(folder / REPORT, write_report(results).encode())
    print("\n".join([*main_lines(results), *(f"left out: {folder / line}" for line in results.left_out)]))
    print(f"written to {folder / REPORT}, pictures to {folder / FIGURES}")


if __name__ == "__main__":
    run_script(main)
