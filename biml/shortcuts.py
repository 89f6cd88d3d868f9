"""Tell how many new queries could be answered by copying: without using a function.

    python -m biml.shortcuts --data_dir data/longer

asks of each new query of the validation episodes whether it can be cut into inputs of study examples and single words
with a colour so that their outputs, one after the other, are the answer. That is generous: it takes for granted that
the right cut is found. The share is a mean over episodes, as those of biml.eval are.
"""

import argparse
import statistics
from pathlib import Path

from biml.episode import Episode, is_put_together
from biml.episode_types import load_random
from common.command_line import OneLineParser, folder_path, run_script
from common.errors import UserError


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    help_text = "folder with data_algebraic/ (of biml.generate)"
    parser.add_argument("--data_dir", type=folder_path, default=Path("data"), metavar="DIR", help=help_text)
    return parser.parse_args()


def share(episode: Episode) -> float:
    """Compute the share of an episode's new queries that copies and colours answer."""
    meanings = episode.grammar.meanings if episode.grammar else {}
    parts = [*episode.support, *(((word,), colours) for word, colours in meanings.items())]
    return statistics.fmean(is_put_together(*query, parts) for query in episode.query)


def main() -> None:
    """Count and print."""
    packed = load_random(parse_arguments().data_dir, "val")
    asked = [episode for episode in map(packed.episode, range(len(packed))) if episode.query]
    if not asked:
        raise UserError("the episodes have no new queries")
    percent = 100 * statistics.fmean(map(share, asked))
    print(f"copies and colours answer {percent:.2f} % of the new queries of {len(asked)} validation episodes")


if __name__ == "__main__":
    run_script(main)
