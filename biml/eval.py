"""Evaluate a trained network: accuracy of greedy or sampled answers, log-likelihood of people's, the best lapse.

    python -m biml.eval --fn_out_model net_BIML.tar --max
    python -m biml.eval --fn_out_model net_BIML.tar --episode_type few_shot_gold --max --verbose

Prints and, with --fn_out_results, writes JSON. --ll wants answers to be likely: it prints their log-likelihood in nats.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from biml.episode_types import EVALUATED_ONLY, TRAINED, evaluation_views
from biml.network_file import TrainedNetwork, load_network
from biml.scoring import AnsweredEpisode, accuracy, answer_views, fit_lapse, likelihood, views_of
from checkpoint import add_device_options, choose_device, describe_device, provenance
from script_util import (
    OneLineParser,
    add_model_folder,
    checkpoint_name,
    dropout_probability,
    json_path,
    natural_int,
    positive_int,
    run_script,
    save_json,
)


def parse_arguments() -> argparse.Namespace:
    """Read the command line; the names are those of the published code."""
    parser = OneLineParser(__doc__)
    add = parser.add_argument_group("network and episodes").add_argument
    add("--fn_out_model", type=checkpoint_name, required=True, metavar="NAME.tar", help="the network's checkpoint")
    add_model_folder(parser)
    told = f"what to evaluate on (default: the network's own type): {', '.join((*TRAINED, *EVALUATED_ONLY))}"
    add("--episode_type", choices=(*TRAINED, *EVALUATED_ONLY), metavar="TYPE", help=told)
    told = "folder with data_algebraic/ (of biml.generate) and data_human/ (your own download)"
    add("--data_dir", type=Path, default=Path("data"), metavar="DIR", help=told)
    add("--batch_size", type=positive_int, default=25, metavar="B", help="episodes at a time")
    add("--seed", type=natural_int, default=0, help="of study orders, names and samples")
    add = parser.add_argument_group("what to do").add_argument
    add("--max", action="store_true", help="accuracy of the likeliest answers")
    add("--sample", action="store_true", help="accuracy of sampled answers")
    add("--ll", action="store_true", help="log-likelihood of the targets")
    add("--fit_lapse", action="store_true", help="find the lapse with the highest log-likelihood")
    told = "symbols after which an answer is cut off"
    add("--max_length_eval", type=positive_int, default=10, metavar="N", help=told)
    add("--ll_nrep", type=positive_int, default=1, metavar="R", help="repetitions, each with other orders and names")
    told = "chance that a symbol is drawn at random instead"
    add("--ll_p_lapse", type=dropout_probability, default=0.0, metavar="P", help=told)
    add("--verbose", action="store_true", help="print every answer")
    add("--fn_out_results", type=json_path, metavar="PATH.json", help="also write the results")
    add_device_options(parser)
    args = parser.parse_args()
    if not (args.max or args.sample or args.ll or args.fit_lapse):
        parser.error("nothing to do; pass one or more of --max, --sample, --ll, --fit_lapse")
    if args.fit_lapse and args.ll_nrep == 1:
        parser.error("--fit_lapse needs several repetitions; pass --ll_nrep, 100 for example")
    return args


def show_answers(episodes: Sequence[AnsweredEpisode]) -> str:
    """Write every study example and every answer for people."""
    lines = []
    for number, episode in enumerate(episodes, start=1):
        lines.append(f"Evaluation episode {number}")
        lines.append("support items;")
        lines += [f"    {' '.join(one.input)} -> {' '.join(one.output)}" for one in episode.support] or [
            "    no patterns"
        ]
        for title, is_retrieve in (("retrieval items;", True), ("generalization items;", False)):
            found = [one for one in episode.answered if one.is_retrieve == is_retrieve]
            right = sum(one.is_right for one in found)
            lines.append(f"{title} {right} of {len(found)} right" if found else title)
            for one in found:
                wanted = "" if one.is_right else f" (** target: {' '.join(one.target)})"
                lines.append(f"    {' '.join(one.query)} -> {' '.join(one.answer)}{wanted}")
            lines += [] if found else ["    no patterns"]
    return "\n".join(lines)


def evaluate(args: argparse.Namespace, trained: TrainedNetwork, episode_type: str) -> dict[str, Any]:
    """Do what the command line asks for, print it, and return it."""
    views = evaluation_views(episode_type, args.data_dir)
    if views.language != trained.language:
        raise ValueError(f"--episode_type {episode_type} has another vocabulary than the network")
    report: dict[str, Any] = {}
    device = next(trained.model.parameters()).device
    for name, generator in (("max", None), ("sample", torch.Generator(device).manual_seed(args.seed))):
        if not getattr(args, name):
            continue
        made = list(views_of(views, args.seed))
        episodes = answer_views(trained, made, args.batch_size, args.max_length_eval, generator)
        found = accuracy(episodes)
        if args.verbose:
            print(show_answers(episodes))
        shown = ["n/a" if share is None else f"{share:.2f} %" for share in found[:3]]
        print(f"{name}: retrieve {shown[0]}, novel {shown[1]} (SD {shown[2]}), {found.n_episodes} episodes")
        report[name] = found._asdict()
    if args.ll:
        told = likelihood(trained, views, args.batch_size, args.seed, args.ll_nrep, args.ll_p_lapse)
        spread = "" if told.total_sd is None else f" (SD {told.total_sd:.2f} over {args.ll_nrep} repetitions)"
        total = f"log-likelihood {told.total:.2f} nats{spread}"
        print(f"{total}, {told.n_symbols:.1f} symbols, {told.per_symbol:.4f} a symbol")
        report["ll"] = {"lapse": args.ll_p_lapse, "repetitions": args.ll_nrep, **told._asdict()}
    if args.fit_lapse:
        lapse, told = fit_lapse(trained, views, args.batch_size, args.seed, args.ll_nrep)
        print(f"best lapse {lapse}: log-likelihood {told.total:.2f} nats, {told.per_symbol:.4f} a symbol")
        report["fit_lapse"] = {"lapse": lapse, "repetitions": args.ll_nrep, **told._asdict()}
    return report


def main() -> None:
    """Evaluate, print, write."""
    args = parse_arguments()
    device = choose_device(args.gpu, args.cpu, args.threads)
    trained = load_network(args.dir_model / args.fn_out_model, device)
    episode_type = args.episode_type or trained.episode_type
    if episode_type is None:
        raise ValueError(f"{args.fn_out_model} does not tell what it was trained on; pass --episode_type")
    nepochs = trained.arguments.get("nepochs", "?")
    print(f"{args.fn_out_model}: {trained.epoch} of {nepochs} epochs, {describe_device(device)}, on {episode_type}")
    report = evaluate(args, trained, episode_type)
    if args.fn_out_results:
        about = {
            "file": args.fn_out_model,
            "episode_type": episode_type,
            "epoch": trained.epoch,
            "seed": args.seed,
            "arguments": trained.arguments,
            "device": describe_device(device),
            "provenance": provenance(),
        }
        save_json(args.fn_out_results, {**about, **report})
        print(f"written to {args.fn_out_results}")


if __name__ == "__main__":
    run_script(main)
