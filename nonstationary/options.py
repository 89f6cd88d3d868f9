"""Options of training and evaluation, what follows from them, and which contradict one another."""

import argparse
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields, replace
from typing import Any

from common.command_line import (
    OneLineParser,
    add_model_folder,
    checkpoint_name,
    count_list,
    dropout_probability,
    name_list,
    natural_int,
    nonnegative_float,
    positive_float,
    positive_int,
)
from common.devices import add_device_options
from common.errors import UserError
from common.plain_files import check_sizes
from common.run_loop import add_overwrite
from nonstationary.network_config import (
    MODELS,
    POSITIONS,
    RECURRENT,
    NetworkConfig,
    check_length,
    check_network,
)
from nonstationary.predictors import OWN_MIXTURE, PREDICTORS
from nonstationary.sources import SEGMENTS, USERS, Source

EVAL_SEED = 12345  # of the sequences on which networks are evaluated, in training too


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
    """Parse layer widths, with commas between them."""
    return tuple(count_list(text))


def stack_size(text: str) -> int | str:
    """Parse the number of cells of a stack, or T for as many as a sequence has symbols."""
    return text if text == "T" else positive_int(text)


def competitors(text: str) -> tuple[str, ...]:
    """Parse names of exact predictors, with commas between them."""
    return tuple(name_list("competitor", text, PREDICTORS))


def add_source_options(parser: argparse.ArgumentParser, defaults: Source | None) -> None:
    """Add the source's options; without defaults those of the network's training hold."""
    add = parser.add_argument_group("source").add_argument
    default = argparse.Namespace(**dict.fromkeys(asdict(Source()))) if defaults is None else defaults
    help_text = f"where sequences switch: {', '.join(SEGMENTS)}"
    add("--data_distribution", choices=list(SEGMENTS), default=default.name, metavar="SOURCE", help=help_text)
    help_text = "of the Dirichlet from which a segment's parameter is drawn, here and in the exact predictors"
    add("--alpha", type=dirichlet_alpha, default=default.alpha, help=help_text)
    add("--num_symbols", type=two_or_more, default=default.num_symbols, metavar="K", help="size of the alphabet")
    help_text = "regular: steps in a segment"
    add("--shift_period", type=positive_int, default=default.shift_period, metavar="N", help=help_text)
    help_text = "random_uniform, the source or the exact predictor: the longest segment, in steps"
    add("--max_segment", type=positive_int, default=default.max_segment, metavar="N", help=help_text)


NETWORK_OPTIONS: dict[str, tuple[tuple[str, ...], dict[str, tuple[Callable[[str], Any], str, str]]]] = {
    "recurrent networks": (
        RECURRENT,
        {
            "hidden_size": (positive_int, "H", "units of the core"),
            "before_mlp": (widths, "WIDTHS", "widths of layers before the core, with commas between them"),
            "after_mlp": (widths, "WIDTHS", "widths of layers after the core, with commas between them"),
        },
    ),
    "networks with stacks": (
        ("stack_rnn", "stack_lstm"),
        {
            "n_stacks": (positive_int, "N", "number of stacks"),
            "stack_size": (stack_size, "S", "cells of a stack; T for as many as a sequence has symbols"),
            "stack_cell_size": (positive_int, "C", "width of a cell"),
        },
    ),
    "transformers": (
        ("transformer",),
        {
            "emb_size": (positive_int, "E", "width"),
            "nlayers": (positive_int, "N", "blocks of attention and feed-forward layers"),
            "nheads": (positive_int, "N", "attention heads"),
            "head_size": (positive_int, "D", "units of a head (default: E / heads)"),
            "ff_mult": (positive_int, "N", "width of feed-forward layers, in E"),
            "dropout": (dropout_probability, "P", "in training"),
            "emb_init_scale": (positive_float, "SD", "standard deviation of the first embeddings"),
            "pos_enc": (str, "NAME", f"position encoding: {', '.join(POSITIONS)}"),
            "max_time": (positive_float, "STEPS", "the sinusoids' longest period, in steps / (2 pi)"),
            "context_length": (positive_int, "N", "cut the input into independent blocks of N steps (default: one)"),
            "attention_window": (positive_int, "N", "attend to a step and the N/2 before it (default: all before it)"),
        },
    ),
}
"""For each family its members, and the options that only they have: sizes whose defaults are in NetworkConfig."""


def make_parser(description: str | None = None) -> OneLineParser:
    """Declare the command line of training."""
    parser = OneLineParser(description)
    add_source_options(parser, Source())
    default = NetworkConfig()
    add = parser.add_argument_group("network").add_argument
    add("--model", choices=MODELS, default=default.model, help="kind of network")
    for family, (_, options) in NETWORK_OPTIONS.items():
        add = parser.add_argument_group(family).add_argument
        for name, (kind, metavar, help_text) in options.items():
            add(f"--{name}", type=kind, default=getattr(default, name), metavar=metavar, help=help_text)
    add_training_options(parser)
    group = parser.add_argument_group("log and files")
    add = group.add_argument
    add("--log_every", type=positive_int, default=250, metavar="N", help="steps from one evaluation to the next")
    add("--save_every", type=positive_int, default=1000, metavar="N", help="steps from one checkpoint to the next")
    add("--fn_out_model", type=checkpoint_name, required=True, metavar="NAME.tar", help="the checkpoint")
    add_model_folder(group)
    add_overwrite(group)
    add_device_options(parser)
    return parser


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add how to learn, and what a network in training is evaluated on."""
    add = parser.add_argument_group("training").add_argument
    add("--seq_length", type=two_or_more, default=256, metavar="T", help="symbols of a sequence")
    help_text = "draw the length of each batch from the powers of two up to T"
    add("--random_length", action="store_true", help=help_text)
    add("--batch_size", type=positive_int, default=128, metavar="B", help="sequences of a step")
    add("--train_steps", type=positive_int, default=100000, metavar="N", help="gradient steps")
    add("--lr", type=positive_float, default=1e-4, help="Adam's (highest) learning rate")
    add("--warmup_steps", type=natural_int, default=0, metavar="N", help="steps of a linear rise to --lr")
    help_text = "fall linearly, in --train_steps steps, to this fraction of --lr"
    add("--final_lr_fraction", type=nonnegative_float, default=1.0, metavar="F", help=help_text)
    help_text = "norm to which longer gradients are cut, 0 for never"
    add("--clip_grad_norm", type=nonnegative_float, default=1.0, metavar="NORM", help=help_text)
    help_text = "stop gradients every N steps, truncated backpropagation through time (default: never); a transformer, "
    help_text += "which has no state, forgets the steps before"
    add("--chunk_length", type=positive_int, metavar="N", help=help_text)
    add("--carry_state", action="store_true", help="start each batch from the state in which the last one ended")
    add("--seed", type=natural_int, default=1, help="of the training sequences and dropout")
    add("--model_init_seed", type=natural_int, default=1, metavar="SEED", help="of the first weights")
    add = parser.add_argument_group("evaluation").add_argument
    add("--n_eval", type=two_or_more, default=512, metavar="N", help="sequences, the same ones every time")
    help_text = "source of these sequences (default: that of training)"
    add("--eval_data_distribution", choices=list(SEGMENTS), metavar="SOURCE", help=help_text)
    add("--eval_seq_length", type=two_or_more, metavar="T", help="their symbols (default: as in training)")
    help_text = "symbols that the network reads at a time, as --chunk_length in training (default: all)"
    add("--eval_chunk_length", type=positive_int, metavar="N", help=help_text)
    help_text = "exact predictors to compare with, with commas; differences are taken from the last (default: the "
    help_text += "exact mixture of the source of these sequences)"
    add("--competitors", type=competitors, metavar="NAMES", help=help_text)


def source_of(
    args: argparse.Namespace, basis: Source, predictors: Iterable[str] = (), others: Iterable[str | None] = ()
) -> Source:
    """Put the source together: what the command line leaves out is as in `basis`.

    Args:
        args: the command line.
        basis: what holds where it says nothing.
        predictors: exact predictors of its sequences; settings of a source whose mixture is among them are kept.
        others: further sources or mixtures that the command names, whose options may be given too.
    Raises:
        UserError: if an option is given that the source has no use for; the message names it.
    """
    options = {name: getattr(args, name) for name in asdict(basis) if name != "name"}
    options["name"] = args.data_distribution
    given = {name: value for name, value in options.items() if value is not None}
    source, default = replace(basis, **given), Source()
    for name, user in USERS.items():
        if user not in (source.name, *predictors):
            usual = getattr(default, name)
            if given.get(name, usual) != usual and user not in others:
                raise UserError(f"--{name} is for --data_distribution {user} only, which is {source.name}")
            source = replace(source, **{name: usual})
    return source


def training_source(args: argparse.Namespace) -> Source:
    """Give the source that a network is trained on."""
    return source_of(args, Source(), others=(args.eval_data_distribution, *args.competitors))


def evaluation_source(args: argparse.Namespace) -> Source:
    """Give the source that a network in training is evaluated on."""
    there = argparse.Namespace(**vars(args))
    there.data_distribution = args.eval_data_distribution or args.data_distribution
    return source_of(there, Source(), args.competitors, others=[args.data_distribution])


def config_of(args: argparse.Namespace) -> NetworkConfig:
    """Put the network's configuration together; its fields are options of the same names."""
    given = {field.name: getattr(args, field.name) for field in fields(NetworkConfig)}
    if given["stack_size"] == "T":
        given["stack_size"] = args.seq_length
    return NetworkConfig(**given)


def lengths_of(args: argparse.Namespace) -> list[int]:
    """List the lengths that training sequences may have."""
    if not args.random_length:
        return [args.seq_length]
    return [2**exponent for exponent in range(1, args.seq_length.bit_length())]


def complete(args: argparse.Namespace) -> None:
    """Fill in the usual competitor of a training command, and check that its options do not contradict one another.

    Raises:
        UserError: if they do; the message names the flags.
    """
    args.competitors = args.competitors or (OWN_MIXTURE[args.eval_data_distribution or args.data_distribution],)
    training_source(args)
    config = config_of(args)
    check_sizes(config)
    check_network(config)
    for family, (models, options) in NETWORK_OPTIONS.items():
        for name in options:
            if config.model not in models and getattr(config, name) != getattr(NetworkConfig(), name):
                raise UserError(f"--{name} is for {family} only; --model is {config.model}")
    check_length(config, args.seq_length, "--seq_length")
    evaluated = args.eval_seq_length or args.seq_length
    check_length(config, evaluated, "--eval_seq_length")
    for flag, length in (("chunk_length", args.seq_length), ("eval_chunk_length", evaluated)):
        chunk = getattr(args, flag)
        if chunk is not None and chunk < length:
            check_length(config, chunk, f"--{flag}")
    if config.context_length is not None and args.random_length:
        raise UserError("--random_length draws lengths that --context_length does not divide; leave one of them out")
    if args.carry_state and config.model not in RECURRENT:
        with_state = ", ".join(RECURRENT)
        raise UserError(f"--carry_state needs a network with a state ({with_state}); --model is {config.model}")
    if args.seed == EVAL_SEED:
        raise UserError(f"--seed {args.seed} is that of the evaluation set, which training would see; choose another")
    if args.warmup_steps >= args.train_steps:
        raise UserError(f"--warmup_steps {args.warmup_steps} leaves nothing of --train_steps {args.train_steps}")
    if args.final_lr_fraction > 1:
        raise UserError(f"--final_lr_fraction {args.final_lr_fraction}: expected at most 1")
