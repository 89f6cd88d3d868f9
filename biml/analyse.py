"""Tell what kinds of answers networks have sampled and, where they are at hand, people have given.

    python -m biml.analyse html_output/few_shot_gold/*.json
    python -m biml.analyse html_output/open_end_freeform/*.json --data_dir data

reads files of `biml.eval --sample_html` or `--sample_iterative`, one column each, all of the same task. People's
answers, in <data_dir>/data_human, are not part of this project; without --data_dir there is no column of people.
"""

import argparse
from pathlib import Path
from typing import Any

from biml.behaviour import analyse_open_ended, item_correlation, with_roles
from biml.episode import Episode
from biml.episode_types import few_shot_answers, participants
from biml.grammar import Words
from biml.kinds_text import few_shot_table, open_ended_table
from biml.sampled_files import OPEN_ENDED, AnswerFile, read_answers
from common.command_line import OneLineParser, json_path, run_script
from common.errors import UserError
from common.files import save_json

PEOPLE = "people"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    parser.add_argument("answers", type=Path, nargs="+", metavar="ANSWERS.json", help="files of sampled answers")
    help_text = "folder with data_human/, your own download of the published data (default: without people)"
    parser.add_argument("--data_dir", type=Path, metavar="DIR", help=help_text)
    parser.add_argument("--fn_out_results", type=json_path, metavar="PATH.json", help="also write the results")
    return parser.parse_args()


def compare_few_shot(files: dict[str, AnswerFile], data_dir: Path | None) -> dict[str, Any]:
    """Print the kinds of answers to the gold queries, and how people's and networks' accuracies go together."""
    columns = {name: file.few_shot() for name, file in files.items()}
    correlations: dict[str, float | None] = {}
    if data_dir is not None:
        answers = [
            [(answer.input, answer.output) for answer in episode.query] for episode in few_shot_answers(data_dir)
        ]
        people = AnswerFile(PEOPLE, "few_shot_human", answers).few_shot()
        correlations = {name: item_correlation(people, column) for name, column in columns.items()}
        columns = {PEOPLE: people, **columns}
    print(few_shot_table(columns))
    for name, r in correlations.items():
        print(f"accuracies of the queries, people and {name}: r = {'undefined' if r is None else f'{r:.3f}'}")
    shares = {name: column._asdict() for name, column in columns.items()}
    return {"kinds": shares, "correlation_with_people": correlations}


def roles_of(number: int, participant: Episode) -> dict[str, Words]:
    """List a participant's answers by instruction.

    Raises:
        UserError: if these are other instructions; the message tells whose.
    """
    try:
        return with_roles([(answer.input, answer.output) for answer in participant.query])
    except ValueError as error:
        raise UserError(f"participant {number} of data_human/open_ended_all: {error}") from None


def compare_open_ended(files: dict[str, AnswerFile], data_dir: Path | None) -> dict[str, Any]:
    """Print which biases people and networks follow in the open-ended task."""
    columns = {name: file.open_ended() for name, file in files.items()}
    if data_dir is not None:
        rounds = [roles_of(number, episode) for number, episode in enumerate(participants(data_dir))]
        columns = {PEOPLE: [analyse_open_ended(answers) for answers in rounds], **columns}
    print(open_ended_table(columns))
    return {"kinds": {name: [answers._asdict() for answers in many] for name, many in columns.items()}}


def main() -> None:
    """Read, compare, print, write."""
    args = parse_arguments()
    read = [read_answers(path) for path in args.answers]
    if len({file.episode_type == OPEN_ENDED for file in read}) > 1:
        raise UserError("few-shot and open-ended answers cannot stand in one table; pass files of one of the tasks")
    files = {file.name: file for file in read}
    if len(files) < len(read):
        raise UserError(f"two of the files are of the same network; found {', '.join(file.name for file in read)}")
    compare = compare_open_ended if read[0].episode_type == OPEN_ENDED else compare_few_shot
    report = compare(files, args.data_dir)
    if args.fn_out_results:
        save_json(args.fn_out_results, report)
        print(f"written to {args.fn_out_results}")


if __name__ == "__main__":
    run_script(main)
