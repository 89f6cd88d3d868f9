"""Count what the findings in results/ rest on.

    python -m tools.findings alignment out_models/me/net_seed*.tar
    python -m tools.findings take_off results/me/*.csv results/me_curves/*/*.csv
    python -m tools.findings wrong_answers out_models/length_standard/res_test_seed*.json

alignment: in the validation queries of ME with 5 and 6 words, the words that are answered wrong, and how much of its
attention the decoder gives on average to the word whose meaning it produces; a line for each network.

take_off: the runs whose ValAccGeneralize reaches 99 % and stays there to the end, with Wilson's 95 % interval; a line
for each folder of learning curves.

wrong_answers: the kinds of wrong answers to SCAN commands, a line for each file of test.py; for several files of one
test also the commands that fail in all of them, counted once for each support set.
"""

import argparse
import itertools
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from checkpoint import Checkpoint, load_checkpoint
from common.command_line import OneLineParser, run_script
from common.devices import add_device_options, choose_device
from common.errors import UserError
from common.files import read_json_object
from episode_batch import items_of
from evaluate import explain, in_words
from paper.comparison import wilson_interval
from paper.run_results import read_curve, take_off
from scan_util import PRIMITIVES, TESTED_SPLITS

LONG = 5  # words and more
NEARLY, AT_DROP = 95.0, 5000  # percent, and the episode after which the learning rate drops


def alignment(args: argparse.Namespace) -> None:
    """Print a line for each network of ME."""
    device = choose_device(args.gpu, args.cpu, args.threads)
    for path in args.files:
        network = load_checkpoint(path, device)
        if network.experiment.name != "ME" or network.model.config.disable_attention:
            found = network.experiment.name + " without attention" * network.model.config.disable_attention
            raise UserError(f"{path}: expected a network of ME with attention, found one of {found}")
        if network.episode < network.num_episodes:
            raise UserError(f"{path} has {network.episode} of {network.num_episodes} episodes; train it to its end")
        print(f"{path}: {describe_alignment(network)}")


def describe_alignment(network: Checkpoint) -> str:
    """Count the words that are answered wrong, and average the attention to each word at its own step."""
    total, wrong, weights = Counter[bool](), Counter[bool](), []
    for episode in network.validation:
        support, queries = (items_of(part, *network.vocabularies) for part in (episode.support, episode.query))
        shown = {word for item in support for word in item.input}
        for query, is_support in zip(queries, episode.is_support, strict=True):
            if is_support or len(query.input) < LONG:
                continue
            explained = explain(network, in_words(support), " ".join(query.input))
            output = explained["output"].split()
            if len(output) != len(query.input):
                asked, answered = explained["query"], explained["output"]
                raise UserError(f"{asked!r} is answered by {answered!r}: expected one symbol per word")
            for at, word in enumerate(query.input):
                total[word in shown] += 1
                wrong[word in shown] += output[at] != query.output[at]
                weights.append(explained["decoder"]["weights"][at][at])
    counts = ", ".join(f"{wrong[is_shown]} of {total[is_shown]}" for is_shown in (True, False))
    return f"wrong at shown words, at the withheld word: {counts}; weight {statistics.mean(weights):.2f}"


def count_take_offs(args: argparse.Namespace) -> None:
    """Print a line for each folder of learning curves."""
    paths = sorted({*args.files}, key=lambda path: (path.parent, path))
    curves = {path: read_curve(path) for path in paths}
    for path, curve in curves.items():
        if not curve:
            raise UserError(f"{path}: expected rows of a learning curve, found none")
    for folder, group in itertools.groupby(paths, lambda path: path.parent):
        took_off = {path: take_off(curves[path]) for path in group}
        found = [episode for episode in took_off.values() if episode is not None]
        low, high = wilson_interval(len(found), len(took_off))
        text = f"{len(found)} of {len(took_off)} took off ({low:.0f} to {high:.0f} %)"
        if found:
            text += f", median episode {statistics.median(found):.0f} ({min(found)} to {max(found)})"
        at_drop = [point.generalize or 0 for path in took_off for point in curves[path] if point.episode == AT_DROP]
        text += f"; {NEARLY:.0f} % at episode {AT_DROP}: {sum(value >= NEARLY for value in at_drop)} of {len(at_drop)}"
        lost = [f"{path.stem} {curves[path][-1].generalize} %" for path, episode in took_off.items() if episode is None]
        print(f"{folder.as_posix()}: {text}" + (f"; the others end at: {', '.join(lost)}" if lost else ""))


def count_wrong_answers(args: argparse.Namespace) -> None:
    """Print a line for each file of test.py, and one for all of them."""
    tests = [read_test(path) for path in args.files]
    for path, test in zip(args.files, tests, strict=True):
        print(f"{path}: {describe_wrong_answers(test['wrong'])}")
    if len({(test["split"], test["total"]) for test in tests}) > 1:
        print("the files are of different tests, so nothing is counted over all of them")
    elif len(tests) > 1:
        lengths = {answer["query"]: len(answer["target"].split()) for test in tests for answer in test["wrong"]}
        wrong = [{(answer["query"], answer.get("support_set", 0)) for answer in test["wrong"]} for test in tests]
        always, ever = set.intersection(*wrong), set.union(*wrong)
        text = f"wrong in all {len(tests)}: {len(always)} of {tests[0]['total']}, in some: {len(ever)}"
        by_length = sorted(Counter(lengths[query] for query, _ in always).items())
        print(text + ("; by output length " if by_length else "") + ", ".join(f"{n}: {k}" for n, k in by_length))


def read_test(path: Path) -> dict[str, Any]:
    """Read what test.py wrote; refuse a file without a list of wrong answers, or of another test than SCAN's."""
    report = read_json_object(path)
    if report is None or not isinstance(report.get("wrong"), list):
        raise UserError(f"{path}: expected what test.py writes, with its list of wrong answers")
    if report.get("split") not in TESTED_SPLITS:
        raise UserError(f"{path}: expected a test on one of {', '.join(TESTED_SPLITS)}, found {report.get('split')}")
    return report


def describe_wrong_answers(wrong: Sequence[Mapping[str, str]]) -> str:
    """Count answers of a wrong length, those wrong in the actions alone, and those to commands with two verbs."""

    def shape(actions: str) -> list[str]:
        return [action if "TURN" in action else "action" for action in actions.split()]

    pairs = [(shape(answer["target"]), shape(answer["output"])) for answer in wrong]
    counts = {
        "too short": sum(len(output) < len(target) for target, output in pairs),
        "too long": sum(len(output) > len(target) for target, output in pairs),
        "with the right length and turns": sum(output == target for target, output in pairs),
        "to commands with two verbs": sum(len({*PRIMITIVES} & {*answer["query"].split()}) == 2 for answer in wrong),
    }
    return f"{len(wrong)} wrong answers, " + ", ".join(f"{n} {kind}" for kind, n in counts.items())


def main() -> None:
    """Count."""
    kinds = {"alignment": alignment, "take_off": count_take_offs, "wrong_answers": count_wrong_answers}
    parser = OneLineParser(__doc__)
    parser.add_argument("what", choices=kinds, help="what to count")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="networks, learning curves or test results")
    add_device_options(parser)
    args = parser.parse_args()
    kinds[args.what](args)


if __name__ == "__main__":
    run_script(main)
