"""Ask a trained network your own questions.

    python query.py --fn_in_model net_ME.tar --support "dax -> RED; lug -> BLUE; wif -> GREEN" "zup lug dax"

prints the output. Without a query, queries are read from standard input, one a line. There a line such as
"support: dax -> RED; wif -> BLUE" puts other items into memory.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence

from checkpoint import Checkpoint, load_checkpoint, short_name
from common.command_line import OneLineParser, add_model_folder, add_results_folder, checkpoint_name, run_script
from common.devices import add_device_options, choose_device
from common.errors import UserError
from common.files import in_name
from evaluate import ask, explain, in_words
from scan_util import Item, typed_items

SUPPORT = "support:"  # begins a line that puts other items into memory


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    parser.add_argument("query", nargs="?", metavar="QUERY", help="words joined by blanks (default: standard input)")
    parser.add_argument("--fn_in_model", type=checkpoint_name, required=True, metavar="NAME.tar", help="the checkpoint")
    add_model_folder(parser)
    help_text = "what the network is shown: 'input words -> output words; ...'; not for one without memory"
    parser.add_argument("--support", type=typed_items, default=(), metavar="ITEMS", help=help_text)
    help_text = "also draw <results_dir>/query_<name>_<query and support>.png and write its JSON"
    parser.add_argument("--plot", action="store_true", help=help_text)
    add_results_folder(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace another picture of that name")
    add_device_options(parser)
    args = parser.parse_args()
    if args.plot and args.query is None:
        parser.error("--plot draws a single query; give it on the command line")
    return args


def typed_lines() -> Iterator[str]:
    """Read standard input line by line, on a terminal with a prompt; blank lines are passed over."""
    if not sys.stdin.isatty():
        yield from filter(str.strip, sys.stdin)
        return
    print(f"a query a line; {SUPPORT} dax -> RED; wif -> BLUE puts other items into memory; Ctrl-D ends")
    while True:
        try:
            line = input("> ")
        except EOFError:
            print()
            return
        if line.strip():
            yield line


def answer_lines(checkpoint: Checkpoint, support: Sequence[tuple[str, str]]) -> None:
    """Answer standard input line by line; a line that cannot be answered is reported and the next one read.

    Raises:
        UserError: at the end, if there were such lines and nobody saw them come.
    """
    n_bad = 0
    for line in typed_lines():
        try:
            if line.strip().startswith(SUPPORT):
                items = typed_items(line.strip().removeprefix(SUPPORT))
                check_support(checkpoint, items)
                ask(checkpoint, in_words(items), [in_words(items)[0][0]])  # which checks the words
                support = in_words(items)
            else:
                print(ask(checkpoint, support, [line])[0], flush=True)
        except (UserError, argparse.ArgumentTypeError) as error:
            print(error, file=sys.stderr, flush=True)
            n_bad += 1
    if n_bad and not sys.stdin.isatty():
        raise UserError(f"{n_bad} of the lines could not be answered")


def check_support(checkpoint: Checkpoint, support: Sequence[Item]) -> None:
    """Make sure that a network with memory gets support items, and one without gets none.

    Raises:
        UserError: if not.
    """
    if support and checkpoint.model.config.disable_memory:
        raise UserError("the network has no memory (it was trained with --disable_memory): no support item is read")
    if not support and not checkpoint.model.config.disable_memory:
        raise UserError("say with --support what the words mean: 'input words -> output words; ...'")


def main() -> None:
    """Answer one query, or those of standard input."""
    args = parse_arguments()
    path = args.dir_model / args.fn_in_model
    checkpoint = load_checkpoint(path, choose_device(args.gpu, args.cpu, args.threads))
    check_support(checkpoint, args.support)
    if checkpoint.episode < checkpoint.num_episodes:
        print(f"note: {path} has {checkpoint.episode} of {checkpoint.num_episodes} episodes", file=sys.stderr)
    support = in_words(args.support)
    if args.query is None:
        answer_lines(checkpoint, support)
    elif args.plot:
        from attention_plot import save_attention  # here alone: matplotlib takes long

        labelled = explain(checkpoint, support, args.query)
        shown = [f"{'+'.join(item.input)}={'+'.join(item.output)}" for item in args.support]
        asked = in_name(",".join(["+".join(args.query.split()), *shown]))
        picture_path = (args.results_dir or args.dir_model) / f"query_{short_name(path)}_{asked}.png"
        save_attention(labelled, picture_path, args.overwrite)
        print(labelled["output"])
        print(f"written to {picture_path} and {picture_path.with_suffix('.json')}")
    else:
        print(ask(checkpoint, support, [args.query])[0])


if __name__ == "__main__":
    run_script(main)
