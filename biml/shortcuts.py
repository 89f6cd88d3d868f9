"""Tell how many new queries could be answered without using a function: what copying can come to.

    python -m biml.shortcuts --data_dir data/pilot

asks of each new query of the validation episodes whether its answer is

- a study example's, whichever: the most that copying whole answers can get right;
- the colours of its words, one after the other: what knowing the words' colours can get right;
- answers of study examples whose inputs, one after the other, are the query: the most that copying by parts can;
- answers of study examples and colours of words, one after the other: the most that both together can.

Shares are means over episodes, as those of biml.eval are.
"""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

from biml.copying import MIXTURE, SHORTCUTS, Shortcut, is_put_together
from biml.episode import Episode
from biml.episode_types import load_random
from common.command_line import OneLineParser, folder_path, json_path, run_script
from common.errors import UserError
from common.files import json_bytes, save_unless_other
from common.provenance import provenance


def percent(gives: Shortcut, episodes: Sequence[Episode]) -> float:
    """Compute the share of new queries to which something gives the right answer."""
    return 100 * statistics.fmean(
        statistics.fmean(gives(*query, episode.support, episode.grammar) for query in episode.query)
        for episode in episodes
    )


def shares(episodes: Sequence[Episode]) -> dict[str, float]:
    """Compute the share of new queries that each shortcut answers, and that any of them does, in percent.

    Raises:
        UserError: if there are no new queries.
    """
    asked = [episode for episode in episodes if episode.query]
    if not asked:
        raise UserError("the episodes have no new queries")
    every = {**SHORTCUTS, MIXTURE: is_put_together}
    shares_of = {name: percent(gives, asked) for name, gives in every.items()}
    return {**shares_of, "any of these": percent(lambda *about: any(gives(*about) for gives in every.values()), asked)}


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    help_text = "folder with data_algebraic/ (of biml.generate)"
    parser.add_argument("--data_dir", type=folder_path, default=Path("data"), metavar="DIR", help=help_text)
    parser.add_argument("--fn_out_results", type=json_path, metavar="PATH.json", help="also write the results")
    parser.add_argument("--overwrite", action="store_true", help="replace results that are there and are others")
    return parser.parse_args()


def main() -> None:
    """Count, print, write."""
    args = parse_arguments()
    packed = load_random(args.data_dir, "val")
    found = shares([packed.episode(index) for index in range(len(packed))])
    print(f"new queries of {len(packed)} validation episodes that could be answered by")
    for name, share in found.items():
        print(f"{name}: {share:.2f} %")
    if args.fn_out_results:
        contents = {"percent": found, "n_episodes": len(packed), "provenance": provenance()}
        save_unless_other({args.fn_out_results: json_bytes(contents)}, args.overwrite)
        print(f"written to {args.fn_out_results}")


if __name__ == "__main__":
    run_script(main)
