"""Look at what networks do with the long queries of ME: which words they get wrong, and whether they attend to them.

    python -m tools.alignment out_models/me/net_seed1.tar

prints for each network, of its validation queries with 5 and 6 words that are no support items, how many words are
answered wrong, those that a support item shows and the withheld one apart, and how much of its attention the decoder
gives on average to the word whose meaning it produces.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

from checkpoint import Checkpoint, load_checkpoint
from common.command_line import OneLineParser, run_script
from common.devices import add_device_options, choose_device
from common.errors import UserError
from episode_batch import items_of
from evaluate import explain, in_words
from scan_util import Item

LONG = 5  # words and more


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="checkpoints of ME, trained to their end")
    add_device_options(parser)
    return parser.parse_args()


class Word(NamedTuple):
    """A word of a query and what the network makes of it."""

    is_shown: bool  # in a support item
    is_wrong: bool
    weight: float  # of the decoder's attention to it, while its meaning is produced


def words_of(network: Checkpoint, support: list[Item], query: Item) -> list[Word]:
    """Answer a query word by word.

    Raises:
        UserError: if the answer has another length than the query, so that no symbol belongs to a word, or if the
            network has no attention.
    """
    explained = explain(network, in_words(support), " ".join(query.input))
    output = explained["output"].split()
    if len(output) != len(query.input):
        raise UserError(f"{' '.join(query.input)!r} is answered by {explained['output']!r}: expected a symbol a word")
    if explained["decoder"] is None:
        raise UserError("this network has no decoder attention")
    shown = {word for item in support for word in item.input}
    rows = explained["decoder"]["weights"]
    words = zip(query.input, query.output, output, strict=True)
    return [Word(word in shown, right != given, rows[at][at]) for at, (word, right, given) in enumerate(words)]


def long_words(network: Checkpoint) -> list[Word]:
    """Take the words of all long validation queries that are no support items."""
    words = []
    for episode in network.validation:
        support, queries = (items_of(part, *network.vocabularies) for part in (episode.support, episode.query))
        for query, is_support in zip(queries, episode.is_support, strict=True):
            if not is_support and len(query.input) >= LONG:
                words += words_of(network, support, query)
    return words


def describe(words: list[Word]) -> str:
    """Count what is wrong, and average the weights."""
    wrong = {shown: [word.is_wrong for word in words if word.is_shown == shown] for shown in (True, False)}
    counts = ", ".join(f"{sum(wrong[shown])} of {len(wrong[shown])}" for shown in (True, False))
    weight = sum(word.weight for word in words) / len(words)
    return f"wrong at shown words, at the withheld word: {counts}; weight {weight:.2f}"


def main() -> None:
    """Print a line a network."""
    args = parse_arguments()
    device = choose_device(args.gpu, args.cpu, args.threads)
    for path in args.files:
        network = load_checkpoint(path, device)
        if network.experiment.name != "ME":
            raise UserError(f"{path}: expected a network of ME, found one of {network.experiment.name}")
        if network.episode < network.num_episodes:
            raise UserError(f"{path} has {network.episode} of {network.num_episodes} episodes; train it to its end")
        print(f"{path}: {describe(long_words(network))}")


if __name__ == "__main__":
    run_script(main)
