"""Options that training and evaluation share."""

import argparse
import re
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

from common import devices
from common.command_line import natural_int, positive_float, positive_int
from common.errors import UserError
from nonstationary.predictors import PREDICTORS
from nonstationary.sources import SEGMENTS, USERS, Source

EVAL_SEED = 12345


def two_or_more(text: str) -> int:
    """Parse a count of at least two: of symbols of an alphabet, steps of a sequence, or sequences."""
    value = positive_int(text)
    if value < 2:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 2, found {text}")
    return value


def dirichlet_alpha(text: str) -> float:
    """Parse a Dirichlet's parameter; draws from one below 0.01 underflow."""
    value = positive_float(text)
    if not 0.01 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"expected a number from 0.01 to 1000, found {text}")
    return value


def depth_int(text: str) -> int:
    """Parse the depth of PTW; sequences of 2^64 symbols are more than enough."""
    value = natural_int(text)
    if value > 64:
        raise argparse.ArgumentTypeError(f"expected a depth of at most 64, found {text}")
    return value


def widths(text: str) -> tuple[int, ...]:
    """Parse layer widths, comma between."""
    return tuple(positive_int(part) for part in text.split(","))


def stack_size(text: str) -> int | str:
    """Parse the number of cells of a stack, or T for as many as a sequence has symbols."""
    return text if text == "T" else positive_int(text)


def competitors(text: str) -> tuple[str, ...]:
    """Parse names of exact predictors, comma between."""
    names = tuple(text.split(","))
    for name in names:
        if name not in PREDICTORS:
            raise argparse.ArgumentTypeError(f"expected some of {','.join(PREDICTORS)}, found {name!r}")
    return tuple(dict.fromkeys(names))


def device_name(text: str) -> str:
    """Parse cpu, cuda or cuda:N."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"expected cpu, cuda or cuda:N, found {text!r}")
    return text


def add_source_options(parser: argparse.ArgumentParser, defaults: Source | None) -> None:
    """Add the source's options; without defaults those of the network's training hold."""
    add = parser.add_argument_group("source").add_argument
    unset = argparse.Namespace(name=None, alpha=None, num_symbols=None, shift_period=None, max_segment=None)
    given = defaults or unset
    help_text = f"where sequences switch: {', '.join(SEGMENTS)}"
    add("--data_distribution", choices=list(SEGMENTS), default=given.name, metavar="SOURCE", help=help_text)
    help_text = "of the Dirichlet from which a segment's parameter is drawn, here and in the exact predictors"
    add("--alpha", type=dirichlet_alpha, default=given.alpha, help=help_text)
    add("--num_symbols", type=two_or_more, default=given.num_symbols, metavar="K", help="size of the alphabet")
    add(
        "--shift_period", type=positive_int, default=given.shift_period, metavar="N", help="regular: steps in a segment"
    )
    help_text = "random_uniform, the source or the exact predictor: the longest segment, in steps"
    add("--max_segment", type=positive_int, default=given.max_segment, metavar="N", help=help_text)


def source_of(
    args: argparse.Namespace, basis: Source, predictors: Iterable[str] = (), others: Iterable[str | None] = ()
) -> Source:
    """Put the source together: what the command line leaves out is as in `basis`.

    Args:
        args: the command line.
        basis: what holds where it says nothing.
        predictors: exact predictors of its sequences; the settings of the source of which one is the mixture are kept.
        others: further sources or mixtures that the command asks for, whose options may be given too.
    Raises:
        UserError: if an option is given of which the source has no use; the message names it.
    """
    options = {
        "name": args.data_distribution,
        **{name: getattr(args, name) for name in asdict(basis) if name != "name"},
    }
    given = {name: value for name, value in options.items() if value is not None}
    source, default = replace(basis, **given), Source()
    for name, user in USERS.items():
        if user not in (source.name, *predictors):
            usual = getattr(default, name)
            if given.get(name, usual) != usual and user not in others:
                raise UserError(f"--{name} is for --data_distribution {user} only, which is {source.name}")
            source = replace(source, **{name: usual})
    return source


class _DeviceNamed(argparse.Action):
    """Takes cpu, cuda or cuda:N for --cpu, --gpu 0 or --gpu N."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        kind, _, number = str(values).partition(":")
        namespace.cpu = kind == "cpu"
        namespace.gpu = int(number or 0) if kind == "cuda" else None


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Add --gpu, --cpu and --threads, and what these were called in earlier code: --device and --num_threads."""
    which = devices.add_device_options(parser)
    help_text = "the same in other words: cpu, cuda or cuda:N"
    unset = argparse.SUPPRESS
    which.add_argument("--device", type=device_name, action=_DeviceNamed, default=unset, metavar="NAME", help=help_text)
    parser.add_argument("--num_threads", type=positive_int, dest="threads", default=unset, help=argparse.SUPPRESS)


def add_evaluation_set(parser: argparse.ArgumentParser, n_eval: int) -> argparse._ArgumentGroup:
    """Add the size and seed of the evaluation set; gives the group of options about evaluation."""
    group = parser.add_argument_group("evaluation")
    add = group.add_argument
    add("--n_eval", type=two_or_more, default=n_eval, metavar="N", help="sequences, the same ones every time")
    add("--eval_seed", type=natural_int, default=EVAL_SEED, metavar="SEED", help="of these sequences")
    return group
