"""Ask a trained network your own questions.

    python query.py --fn_in_model net_ME.tar --support "dax -> RED; lug -> BLUE; wif -> GREEN" "zup lug dax"

prints the output. Without a query, queries are read from standard input, one per line. There a line such as
"support: dax -> RED; wif -> BLUE" puts other items into memory.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence

from checkpoint import Checkpoint, add_network_options, load_checkpoint, network_path, short_name
from common.command_line import OneLineParser, add_results_folder, run_script
from common.devices import add_device_options, choose_device
from common.errors import UserError
from common.files import in_name
from evaluate import ask, asked, check_memory, explain, in_words, one_word
from scan_util import typed_items

SUPPORT = "support:"  # begins a line that puts other items into memory


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    parser.add_argument("query", nargs="?", metavar="QUERY", help="words joined by blanks (default: standard input)")
    add_network_options(parser)
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
    """Read standard input line by line, on a terminal with a prompt; skip blank lines."""
    if not sys.stdin.isatty():
        yield from filter(None, map(str.strip, sys.stdin))
        return
    print(f"one query per line; {SUPPORT} dax -> RED; wif -> BLUE puts other items into memory; Ctrl-D ends")
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            print()
            return
        if line:
            yield line


def answer_lines(checkpoint: Checkpoint, support: Sequence[tuple[str, str]]) -> None:
    """Answer standard input line by line; report a line that cannot be answered and read the next one.

    In a pipe such a query gets an empty line of output, so that the k-th answer belongs to the k-th query.

    Raises:
        UserError: at the end of a pipe, if there were such lines.
    """
    n_bad = 0
    for line in typed_lines():
        is_query = not line.startswith(SUPPORT)
        try:
            if is_query:
                print(ask(checkpoint, support, [line])[0], flush=True)
                note_length(checkpoint, line)
            else:
                items = in_words(typed_items(line.removeprefix(SUPPORT)))
                asked(checkpoint, items, [])  # a bad item is reported here, not with the next query
                support = items
        except (UserError, argparse.ArgumentTypeError) as error:
            print(error, file=sys.stderr, flush=True)
            if is_query and not sys.stdin.isatty():
                print(flush=True)
            n_bad += 1
    if n_bad and not sys.stdin.isatty():
        raise UserError(f"{n_bad} of the lines could not be answered")


def note_length(checkpoint: Checkpoint, query: str) -> None:
    """Note that a query is longer than any that the network was made for."""
    longest, found = checkpoint.model.config.padded_length - 1, len(query.split())  # without EOS
    if found > longest:
        print(f"note: the query has {found} words; the network was made for up to {longest}", file=sys.stderr)


def main() -> None:
    """Answer one query, or those of standard input."""
    args = parse_arguments()
    path, support = network_path(args), in_words(args.support)
    checkpoint = load_checkpoint(path, choose_device(args.gpu, args.cpu, args.threads))
    if args.query is None:
        check_memory(checkpoint, support)
    else:
        asked(checkpoint, support, [args.query])  # before any note: a mistake is a single line
    if checkpoint.episode < checkpoint.num_episodes:
        print(f"note: {path} has {checkpoint.episode} of {checkpoint.num_episodes} episodes", file=sys.stderr)
    if args.query is None:
        answer_lines(checkpoint, support)
        return
    note_length(checkpoint, args.query)
    if not args.plot:
        print(ask(checkpoint, support, [args.query])[0])
        return
    from attention_plot import save_attention  # here alone: matplotlib takes long

    labelled = explain(checkpoint, support, args.query)
    name = in_name(",".join(["+".join(args.query.split()), *map(one_word, args.support)]))
    picture_path = (args.results_dir or args.dir_model) / f"query_{short_name(path)}_{name}.png"
    save_attention(labelled, picture_path, args.overwrite)
    print(labelled["output"])
    print(f"written to {picture_path} and {picture_path.with_suffix('.json')}")


if __name__ == "__main__":
    run_script(main)
