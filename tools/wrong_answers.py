"""Count what is wrong in the wrong answers to SCAN commands, and how many commands fail in every run.

    python -m tools.wrong_answers out_models/jump_perm/res_test_seed1.json
    python -m tools.wrong_answers out_models/length_standard/res_test_seed*.json

prints for each file how many wrong answers are shorter or longer than they should be, how many have the right length
and the right turns, and how many are to a command with two different verbs (of walk, look, run and jump). For several
files of one split it says at the end how many commands are answered wrong in all of them, by output length; a command
that is asked with several support sets counts once for each. The files are those of test.py, which
`python -m paper.reproduce` leaves in out_models/<cell>/.
"""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.command_line import OneLineParser, run_script
from common.errors import UserError
from common.files import read_json_object
from scan_util import PRIMITIVES, TESTED_SPLITS


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="what test.py wrote, res_test_<name>.json")
    return parser.parse_args()


def read_test(path: Path) -> dict[str, Any]:
    """Read what test.py wrote.

    Raises:
        UserError: if the file does not list the wrong answers, or is not of a split of SCAN.
    """
    report = read_json_object(path)
    if report is None or not isinstance(report.get("wrong"), list):
        raise UserError(f"{path}: expected what test.py writes, with its list of wrong answers")
    if report.get("split") not in TESTED_SPLITS:
        raise UserError(f"{path}: expected a test on one of {', '.join(TESTED_SPLITS)}, found {report.get('split')}")
    return report


def shape_of(actions: str) -> list[str]:
    """Write a sequence of actions with all actions alike except the turns."""
    return [action if "TURN" in action else "action" for action in actions.split()]


def describe(wrong: Sequence[Mapping[str, str]]) -> str:
    """Count the kinds of wrong answers."""
    pairs = [(answer["target"], answer["output"]) for answer in wrong]
    missing = [len(target.split()) - len(output.split()) for target, output in pairs]
    same_turns = sum(shape_of(target) == shape_of(output) for target, output in pairs)
    two_verbs = sum(len(set(PRIMITIVES).intersection(answer["query"].split())) == 2 for answer in wrong)
    counts = [f"{sum(n > 0 for n in missing)} too short", f"{sum(n < 0 for n in missing)} too long"]
    counts += [f"{same_turns} with the right length and turns", f"{two_verbs} to commands with two verbs"]
    return f"{len(wrong)} wrong answers, {', '.join(counts)}"


def describe_all(tests: Sequence[Mapping[str, Any]]) -> str:
    """Say how many pairs of command and support set are answered wrong in every test, and in some."""
    lengths = {answer["query"]: len(answer["target"].split()) for test in tests for answer in test["wrong"]}
    wrong = [{(answer["query"], answer.get("support_set", 0)) for answer in test["wrong"]} for test in tests]
    always, ever = set.intersection(*wrong), set.union(*wrong)
    by_length = sorted(Counter(lengths[query] for query, _ in always).items())
    text = f"wrong in all {len(tests)}: {len(always)} of {tests[0]['total']}, in some: {len(ever)}"
    return text + ("; by output length " + ", ".join(f"{length}: {n}" for length, n in by_length) if by_length else "")


def main() -> None:
    """Print a line a file, and one for all of them."""
    paths = parse_arguments().files
    tests = [read_test(path) for path in paths]
    for path, test in zip(paths, tests, strict=True):
        print(f"{path}: {describe(test['wrong'])}")
    if len({(test["split"], test["total"]) for test in tests}) > 1:
        print("not of one test, so nothing is counted over all of them")
    elif len(tests) > 1:
        print(describe_all(tests))


if __name__ == "__main__":
    run_script(main)
