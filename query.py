"""Ask a trained network your own questions.

    python query.py --fn_in_model net_ME.tar --support "dax -> RED; lug -> BLUE; wif -> GREEN" "zup lug dax"

prints the output. Without a query, queries are read from standard input, one a line.
"""

import argparse
import sys
from collections.abc import Sequence

from attention_plot import save_attention
from checkpoint import Checkpoint, load_checkpoint
from common.command_line import OneLineParser, add_model_folder, checkpoint_name, run_script
from common.devices import add_device_options, choose_device
from evaluate import ask, explain, in_words
from scan_util import typed_items


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    parser.add_argument("query", nargs="?", metavar="QUERY", help="words joined by blanks (default: standard input)")
    parser.add_argument("--fn_in_model", type=checkpoint_name, required=True, metavar="NAME.tar", help="the checkpoint")
    add_model_folder(parser)
    told = "what the network is shown: 'input words -> output words; ...'; not for one without memory"
    parser.add_argument("--support", type=typed_items, default=(), metavar="ITEMS", help=told)
    parser.add_argument("--plot", action="store_true", help="also draw <dir_model>/query_<name>.png and write its JSON")
    add_device_options(parser)
    args = parser.parse_args()
    if args.plot and args.query is None:
        parser.error("--plot draws a single query; give it on the command line")
    return args


def answer_lines(checkpoint: Checkpoint, support: Sequence[tuple[str, str]]) -> None:
    """Answer standard input line by line; a line that cannot be answered is reported and the next one read.

    Raises:
        ValueError: at the end, if there were such lines.
    """
    n_bad = 0
    for line in filter(str.strip, sys.stdin):
        try:
            print(ask(checkpoint, support, [line])[0], flush=True)
        except ValueError as error:
            print(error, file=sys.stderr, flush=True)
            n_bad += 1
    if n_bad:
        raise ValueError(f"{n_bad} of the queries could not be answered")


def main() -> None:
    """Answer one query, or those of standard input."""
    args = parse_arguments()
    path = args.dir_model / args.fn_in_model
    checkpoint = load_checkpoint(path, choose_device(args.gpu, args.cpu, args.threads))
    if args.support and checkpoint.model.config.disable_memory:
        raise ValueError(f"{path} has no memory (it was trained with --disable_memory): no support item would be read")
    if not args.support and not checkpoint.model.config.disable_memory:
        raise ValueError("say with --support what the words mean: 'input words -> output words; ...'")
    support = in_words(args.support)
    if args.query is None:
        answer_lines(checkpoint, support)
    elif args.plot:
        labelled = explain(checkpoint, support, args.query)
        picture_path = args.dir_model / f"query_{path.stem.removeprefix('net_')}.png"
        save_attention(labelled, picture_path)
        print(labelled["output"])
        print(f"written to {picture_path} and {picture_path.with_suffix('.json')}")
    else:
        print(ask(checkpoint, support, [args.query])[0])


if __name__ == "__main__":
    run_script(main)
