"""Tell what kinds of answers networks have sampled and, where they are at hand, people have given.

    python -m biml.analyse html_output/few_shot_gold/*.json
    python -m biml.analyse html_output/open_end_freeform/*.json --data_dir data --fn_out_page html_output/page.html

reads files of `biml.eval --sample_html` or `--sample_iterative`, one column each, all of the same task. People's
answers, in <data_dir>/data_human, are not part of this project; without --data_dir there is no column of people.
--fn_out_page shows the answers themselves, with the same columns.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from biml.behaviour import item_correlation
from biml.pages import answers_page, kinds_table
from biml.sampled_files import PEOPLE, AnswerFile, people_few_shot, people_open_ended, read_answers
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
    parser.add_argument("--overwrite", action="store_true", help="replace existing files that differ")
    return parser.parse_args()


def compare_few_shot(files: Sequence[AnswerFile]) -> dict[str, Any]:
    """Print how people's and networks' accuracies go together; return the kinds of all answers too, for JSON."""
    columns = {file.name: file.few_shot() for file in files}
    together: dict[str, Any] = {}
    for name, column in columns.items():
        if PEOPLE in columns and name != PEOPLE:
            found = item_correlation(columns[PEOPLE], column)
            together[name] = found and found._asdict()
            p = "" if found is None or found.p is None else f", p = {found.p:.4f} (t, {found.n} queries)"
            r = "undefined" if found is None else f"{found.r:.3f}{p}"
            print(f"accuracies of the queries, people and {name}: r = {r}")
    kinds = {name: column._asdict() for name, column in columns.items()}
    return {"kinds": kinds, "correlation_with_people": together}


def main() -> None:
    """Read, compare, print, write."""
    args = parse_arguments()
    files = [read_answers(path) for path in args.answers]
    if len({file.is_open_ended for file in files}) > 1:
        raise UserError("few-shot and open-ended answers do not fit into one table; pass files of one of the tasks")
    if len({file.name for file in files}) < len(files):
        raise UserError(f"two of the files are of the same network; found {', '.join(file.name for file in files)}")
    is_open_ended = files[0].is_open_ended
    if args.data_dir is not None:
        files.insert(0, people_open_ended(args.data_dir) if is_open_ended else people_few_shot(args.data_dir))
    table = kinds_table(files)
    print(table)
    if is_open_ended:
        report: dict[str, Any] = {"kinds": {file.name: [one._asdict() for one in file.open_ended()] for file in files}}
    else:
        report = compare_few_shot(files)
    title = f"{'Open-ended' if is_open_ended else 'Few-shot'} answers: {', '.join(file.name for file in files)}"
    written = {args.fn_out_results: json_bytes(report)} if args.fn_out_results else {}
    if args.fn_out_page:
        written[args.fn_out_page] = answers_page(title, table, files).encode()
    save_unless_other(written, args.overwrite)
    for path in written:
        print(f"written to {path}")


if __name__ == "__main__":
    run_script(main)
