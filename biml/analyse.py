"""Tell what kinds of answers networks have sampled and, where they are at hand, people have given.

    python -m biml.analyse html_output/few_shot_gold/*.json
    python -m biml.analyse html_output/open_end_freeform/*.json --data_dir data --fn_out_page html_output/page.html

reads files of `biml.eval --sample_html` or `--sample_iterative`, one column each, all of the same task. People's
answers, in <data_dir>/data_human, are not part of this project; without --data_dir there is no column of people.
--fn_out_page shows the answers themselves, with the same columns.
"""

import argparse
from pathlib import Path
from typing import Any

from biml.behaviour import Correlation, FewShot, item_correlation
from biml.kinds_text import few_shot_table, open_ended_table
from biml.pages import few_shot_comparison, open_ended_comparison
from biml.sampled_files import OPEN_ENDED, PEOPLE, AnswerFile, people_few_shot, people_open_ended, read_answers
from common.command_line import OneLineParser, folder_path, html_path, json_path, run_script
from common.errors import UserError
from common.files import json_bytes, save_unless_other


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    parser.add_argument("answers", type=Path, nargs="+", metavar="ANSWERS.json", help="files of sampled answers")
    help_text = "folder with data_human/, your own download of the published data (default: without people)"
    parser.add_argument("--data_dir", type=folder_path, metavar="DIR", help=help_text)
    parser.add_argument("--fn_out_results", type=json_path, metavar="PATH.json", help="also write the results")
    help_text = "also write a page of all the answers, side by side"
    parser.add_argument("--fn_out_page", type=html_path, metavar="PATH.html", help=help_text)
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there and are others")
    return parser.parse_args()


def correlations(columns: dict[str, FewShot]) -> dict[str, Correlation | None]:
    """Print how accuracies of people, if there are any, and of each network go together."""
    found = {}
    for name, column in columns.items() if PEOPLE in columns else ():
        if name != PEOPLE:
            found[name] = one = item_correlation(columns[PEOPLE], column)
            p = "" if one is None or one.p is None else f", p = {one.p:.4f} (t, {one.n} queries)"
            r = "undefined" if one is None else f"{one.r:.3f}{p}"
            print(f"accuracies of the queries, people and {name}: r = {r}")
    return found


def compare_few_shot(files: dict[str, AnswerFile]) -> tuple[dict[str, Any], str]:
    """Print the kinds of answers to the gold queries, and how people's and networks' accuracies go together.

    Returns what was found, for JSON, and a page.
    """
    columns = {name: file.few_shot() for name, file in files.items()}
    table = few_shot_table(columns)
    print(table)
    shares = {name: column._asdict() for name, column in columns.items()}
    together = {name: one and one._asdict() for name, one in correlations(columns).items()}
    page = few_shot_comparison(
        f"Few-shot answers: {', '.join(files)}", table, {name: file.by_query() for name, file in files.items()}
    )
    return {"kinds": shares, "correlation_with_people": together}, page


def compare_open_ended(files: dict[str, AnswerFile]) -> tuple[dict[str, Any], str]:
    """Print which biases people and networks follow in the open-ended task; returns as compare_few_shot."""
    columns = {name: file.open_ended() for name, file in files.items()}
    table = open_ended_table(columns)
    print(table)
    page = open_ended_comparison(
        f"Open-ended answers: {', '.join(files)}", table, {name: file.rounds() for name, file in files.items()}
    )
    return {"kinds": {name: [answers._asdict() for answers in many] for name, many in columns.items()}}, page


def main() -> None:
    """Read, compare, print, write."""
    args = parse_arguments()
    read = [read_answers(path) for path in args.answers]
    if len({file.episode_type == OPEN_ENDED for file in read}) > 1:
        raise UserError("few-shot and open-ended answers cannot stand in one table; pass files of one of the tasks")
    is_open = read[0].episode_type == OPEN_ENDED
    files = {file.name: file for file in read}
    if len(files) < len(read):
        raise UserError(f"two of the files are of the same network; found {', '.join(file.name for file in read)}")
    if args.data_dir is not None:
        people = people_open_ended(args.data_dir) if is_open else people_few_shot(args.data_dir)
        files = {PEOPLE: people, **files}
    report, page = compare_open_ended(files) if is_open else compare_few_shot(files)
    written = {}
    if args.fn_out_results:
        written[args.fn_out_results] = json_bytes(report)
    if args.fn_out_page:
        written[args.fn_out_page] = page.encode()
    save_unless_other(written, args.overwrite)
    for path in written:
        print(f"written to {path}")


if __name__ == "__main__":
    run_script(main)
