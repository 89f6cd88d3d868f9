"""Options of network and training, what follows from them, and which contradict one another."""

import argparse
from dataclasses import fields

from common.command_line import dropout_probability, natural_int, nonnegative_float, positive_float, positive_int
from common.errors import UserError
from common.plain_files import check_sizes
from nonstationary.network_config import (
    MODELS,
    POSITIONS,
    NetworkConfig,
    check_length,
    check_network,
    check_state,
    check_unused,
)
from nonstationary.options import source_of, stack_size, two_or_more, widths
from nonstationary.predictors import OWN_MIXTURE
from nonstationary.sources import SEGMENTS, Source


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Add what the network is made of."""
    default = NetworkConfig()
    add = parser.add_argument_group("network").add_argument
    add("--model", choices=MODELS, default=default.model, help="kind of network")
    add = parser.add_argument_group("recurrent networks").add_argument
    add("--hidden_size", type=positive_int, default=default.hidden_size, metavar="H", help="units of the core")
    help_text = "widths of layers before the core, comma between (default: none)"
    add("--before_mlp", type=widths, default=default.before_mlp, metavar="WIDTHS", help=help_text)
    help_text = "widths of layers after the core, comma between (default: none)"
    add("--after_mlp", type=widths, default=default.after_mlp, metavar="WIDTHS", help=help_text)
    add("--n_stacks", type=positive_int, default=default.n_stacks, metavar="N", help="stack_*: number of stacks")
    help_text = "stack_*: cells of a stack; T for as many as a sequence has symbols"
    add("--stack_size", type=stack_size, default=default.stack_size, metavar="S", help=help_text)
    help_text = "stack_*: width of a cell"
    add("--stack_cell_size", type=positive_int, default=default.stack_cell_size, metavar="C", help=help_text)
    add = parser.add_argument_group("transformer").add_argument
    add("--emb_size", type=positive_int, default=default.emb_size, metavar="E", help="width")
    add("--nlayers", type=positive_int, default=default.nlayers, metavar="N", help="blocks")
    add("--nheads", type=positive_int, default=default.nheads, metavar="N", help="attention heads")
    add("--ff_mult", type=positive_int, default=default.ff_mult, metavar="N", help="width of feed-forward layers, in E")
    add("--dropout", type=dropout_probability, default=default.dropout, metavar="P", help="in training")
    add("--pos_enc", choices=POSITIONS, default=default.pos_enc, help="how it knows positions")
    help_text = "cut the input into blocks of N steps that know nothing of one another (default: one block)"
    add("--context_length", type=positive_int, metavar="N", help=help_text)
    help_text = "attend to the N/2 steps before a step and to itself (default: to all steps so far)"
    add("--attention_window", type=positive_int, metavar="N", help=help_text)
    add("--head_size", type=positive_int, metavar="D", help="units of a head (default: E / heads)")
    help_text = "standard deviation of the first embeddings"
    add("--emb_init_scale", type=positive_float, default=default.emb_init_scale, metavar="SD", help=help_text)
    help_text = "sincos, relative: the longest period of the sinusoids, in steps / (2 pi)"
    add("--max_time", type=positive_float, default=default.max_time, metavar="STEPS", help=help_text)


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add how to learn."""
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
    help_text += "which has no state, knows nothing of the steps before"
    add("--chunk_length", type=positive_int, metavar="N", help=help_text)
    add("--carry_state", action="store_true", help="start each batch from the state in which the last one ended")
    add("--seed", type=natural_int, default=1, help="of the training sequences and dropout")
    add("--model_init_seed", type=natural_int, default=1, metavar="SEED", help="of the first weights")


def add_other_evaluation(group: argparse._ArgumentGroup) -> None:
    """Add what networks in training are evaluated on, if not on what they are trained on."""
    add = group.add_argument
    help_text = "source of these sequences (default: that of training)"
    add("--eval_data_distribution", choices=list(SEGMENTS), metavar="SOURCE", help=help_text)
    add("--eval_seq_length", type=two_or_more, metavar="T", help="their symbols (default: as in training)")
    help_text = "symbols that the network reads at a time, as --chunk_length in training (default: all)"
    add("--eval_chunk_length", type=positive_int, metavar="N", help=help_text)


def training_source(args: argparse.Namespace) -> Source:
    """Tell what the sequences come from on which a network is trained."""
    return source_of(args, Source(), others=(args.eval_data_distribution, *args.competitors))


def evaluation_source(args: argparse.Namespace) -> Source:
    """Tell what the sequences come from on which a network in training is evaluated."""
    there = argparse.Namespace(**vars(args))
    there.data_distribution = args.eval_data_distribution or args.data_distribution
    return source_of(there, Source(), args.competitors, others=[args.data_distribution])


def reference_of(args: argparse.Namespace) -> str:
    """Name the exact mixture of the source on which a network in training is evaluated."""
    return OWN_MIXTURE[args.eval_data_distribution or args.data_distribution]


def config_of(args: argparse.Namespace) -> NetworkConfig:
    """Put the network's configuration together from the command line; its fields are options of the same names."""
    given = {field.name: getattr(args, field.name) for field in fields(NetworkConfig)}
    if given["stack_size"] == "T":
        given["stack_size"] = args.seq_length
    return NetworkConfig(**given)


def check(args: argparse.Namespace) -> None:
    """Raise UserError, naming the flags, if they contradict one another."""
    config = config_of(args)
    check_sizes(config)
    check_network(config)
    check_unused(config)
    check_length(config, args.seq_length, "--seq_length")
    evaluated = args.eval_seq_length or args.seq_length
    check_length(config, evaluated, "--eval_seq_length")
    for flag, length in (("chunk_length", args.seq_length), ("eval_chunk_length", evaluated)):
        chunk = getattr(args, flag)
        if chunk is not None and chunk < length:
            check_length(config, chunk, f"--{flag}")
    training_source(args)
    if args.seed == args.eval_seed:
        raise UserError(f"--seed {args.seed} is also --eval_seed: training would see the evaluation set")
    if config.model == "transformer" and config.context_length is not None and args.random_length:
        raise UserError("--random_length draws lengths that --context_length does not divide; leave one of them out")
    if args.carry_state:
        check_state(config)
    if args.warmup_steps >= args.train_steps:
        raise UserError(f"--warmup_steps {args.warmup_steps} leaves nothing of --train_steps {args.train_steps}")
    if args.final_lr_fraction > 1:
        raise UserError(f"--final_lr_fraction {args.final_lr_fraction}: expected at most 1")


def lengths_of(args: argparse.Namespace) -> list[int]:
    """List the lengths that training sequences may have."""
    if not args.random_length:
        return [args.seq_length]
    return [2**exponent for exponent in range(1, args.seq_length.bit_length())]
