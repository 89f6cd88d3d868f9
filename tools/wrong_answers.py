"""Count what is wrong in the wrong answers to add jump.

    python -m tools.wrong_answers out_models/jump_perm/res_test_seed1.json

prints for each file how many wrong answers have the right length, the right turns, and a command with two different
verbs (of walk, look, run and jump). The files are those of test.py, which `python -m paper.reproduce` leaves in
out_models/<cell>/.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.command_line import OneLineParser, run_script
from common.errors import UserError
from common.files import read_json_object
from scan_util import PRIMITIVES

SPLIT = "addprim_jump"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="what test.py wrote, res_test_<name>.json")
    return parser.parse_args()


def read_wrong(path: Path) -> list[dict[str, Any]]:
    """Read the wrong answers of a test.

    Raises:
        UserError: if the file does not list them, or is of another split.
    """
    report = read_json_object(path)
    if report is None or not isinstance(report.get("wrong"), list):
        raise UserError(f"{path}: expected what test.py writes, with its list of wrong answers")
    if report.get("split") != SPLIT:
        raise UserError(f"{path}: expected a test on {SPLIT}, found {report.get('split')}")
    return list(report["wrong"])


def shape_of(actions: str) -> list[str]:
    """Write a sequence of actions with all actions alike except the turns."""
    return [action if "TURN" in action else "action" for action in actions.split()]


def describe(wrong: Sequence[Mapping[str, str]]) -> str:
    """Count the kinds of wrong answers."""
    pairs = [(answer["target"], answer["output"]) for answer in wrong]
    same_length = sum(len(target.split()) == len(output.split()) for target, output in pairs)
    same_turns = sum(shape_of(target) == shape_of(output) for target, output in pairs)
    two_verbs = sum(len(set(PRIMITIVES).intersection(answer["query"].split())) == 2 for answer in wrong)
    counts = [f"{same_length} of the right length", f"{same_turns} with the right turns", f"{two_verbs} to two verbs"]
    return f"{len(wrong)} wrong answers, {', '.join(counts)}"


def main() -> None:
    """Print a line a file."""
    for path in parse_arguments().files:
        print(f"{path}: {describe(read_wrong(path))}")


if __name__ == "__main__":
    run_script(main)
