"""Evaluate a trained network: accuracy and kinds of answers, likelihood of people's, the best lapse, its training.

    python -m biml.eval --fn_in_model net_BIML.tar --max
    python -m biml.eval --fn_in_model net_BIML.tar --episode_type few_shot_gold --max --verbose
    python -m biml.eval --fn_in_model net_BIML.tar --episode_type few_shot_gold --sample_html

Prints and, with --fn_out_results, writes JSON. Results, answers and pictures of another network or question are not
replaced unless --overwrite is given. --ll tells how likely the targets are (natural logarithm): of the types named
human these are people's answers.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from biml.answering import (
    AnsweredEpisode,
    Likelihood,
    accuracy,
    answer_one_by_one,
    answer_views,
    fit_lapse,
    likelihood,
    symbol_log_p,
)
from biml.episode_types import EVALUATED_ONLY, TRAINED, ViewSet, evaluation_views
from biml.network_file import TrainedNetwork, load_network
from biml.pages import answers_page, kinds_table, listing
from biml.sampled_files import FEW_SHOT, LISTED, OPEN_ENDED, AnswerFile
from biml.stream import checksum, fingerprint_of_views, views_of
from common.command_line import (
    OneLineParser,
    add_model_folder,
    dropout_probability,
    folder_path,
    json_path,
    natural_int,
    positive_int,
    run_script,
)
from common.devices import add_device_options, choose_device, describe_device
from common.errors import UserError
from common.files import read_json_object, save_bytes, save_json
from common.provenance import provenance

LONGEST_ANSWER = 500  # symbols; answers that are studied in turn must fit into the network's table of positions
MODES = {
    "max": "accuracy of the likeliest answers",
    "sample": "accuracy of sampled answers",
    "sample_html": "sample few-shot answers: a page, a listing, JSON, kinds of answers",
    "sample_iterative": "sample open-ended answers, one after the other; the same files",
    "ll": "log-likelihood of the targets",
    "fit_lapse": "find the lapse with the highest log-likelihood",
    "dashboard": "draw losses and learning rate of the training",
}
ANSWERING = tuple(MODES)[:-1]
DETERMINING = ("weights", "data", "episode_type", "seed", "batch_size", "max_length_eval")
"""What answers depend on, of all that is written with them."""


def network_name(text: str) -> str:
    """Parse the name of a network's file: of this project or, in .pt, of the published ones."""
    if Path(text).name != text or Path(text).suffix not in (".tar", ".pt"):
        raise argparse.ArgumentTypeError(
            f"expected NAME.tar or NAME.pt, its folder goes to --dir_model; found {text!r}"
        )
    return text


def parse_arguments() -> argparse.Namespace:
    """Read the command line; the names are those of the published code."""
    parser = OneLineParser(__doc__)
    add = parser.add_argument_group("network and episodes").add_argument
    names = "--fn_in_model", "--fn_out_model"  # the published code's is the second
    add(*names, type=network_name, required=True, metavar="NAME.tar", help="the network's checkpoint")
    add_model_folder(parser)
    help_text = f"what to evaluate on (default: the network's own type): {', '.join((*TRAINED, *EVALUATED_ONLY))}"
    add("--episode_type", choices=(*TRAINED, *EVALUATED_ONLY), metavar="TYPE", help=help_text)
    help_text = "folder with data_algebraic/ (of biml.generate) and data_human/ (your own download)"
    add("--data_dir", type=folder_path, default=Path("data"), metavar="DIR", help=help_text)
    add("--batch_size", type=positive_int, metavar="B", help="episodes at a time (default: as in training)")
    add("--seed", type=natural_int, default=0, help="of study orders, names and samples")
    add = parser.add_argument_group("what to do, one or more").add_argument
    for mode, help_text in MODES.items():
        add(f"--{mode}", action="store_true", help=help_text)
    add = parser.add_argument_group("how").add_argument
    help_text = "symbols after which an answer is cut off"
    add("--max_length_eval", type=positive_int, default=10, metavar="N", help=help_text)
    add("--ll_nrep", type=positive_int, default=1, metavar="R", help="repetitions, each with other orders and names")
    help_text = "chance that a symbol is drawn at random instead"
    add("--ll_p_lapse", type=dropout_probability, default=0.0, metavar="P", help=help_text)
    add("--verbose", action="store_true", help="print every answer")
    add("--fn_out_results", type=json_path, metavar="PATH.json", help="also write the results")
    help_text = "folder of what --sample_html and --sample_iterative write"
    add("--results_dir", type=folder_path, default=Path("html_output"), metavar="DIR", help=help_text)
    add("--overwrite", action="store_true", help="replace existing answers, results and pictures that differ")
    add_device_options(parser)
    args = parser.parse_args()
    check_together(parser, args)
    return args


def check_together(parser: OneLineParser, args: argparse.Namespace) -> None:
    """Refuse options that have no effect beside the others."""
    asks, length = any(getattr(args, mode) for mode in ANSWERING), args.max_length_eval
    mistakes = {
        f"nothing to do; pass one or more of {', '.join(f'--{mode}' for mode in MODES)}": not (asks or args.dashboard),
        "--fit_lapse needs several repetitions; pass --ll_nrep, 100 for example": args.fit_lapse and args.ll_nrep == 1,
        "--ll_nrep goes with --ll and --fit_lapse": args.ll_nrep > 1 and not (args.ll or args.fit_lapse),
        "--ll_p_lapse goes with --ll": args.ll_p_lapse > 0 and not args.ll,
        "--verbose goes with --max and --sample": args.verbose and not (args.max or args.sample),
        "--fn_out_results has nothing to hold; --dashboard writes a picture": args.fn_out_results and not asks,
        f"--max_length_eval: expected at most {LONGEST_ANSWER}, found {length}": length > LONGEST_ANSWER,
    }
    for message in (message for message, is_made in mistakes.items() if is_made):
        parser.error(message)


def find_views(args: argparse.Namespace, trained: TrainedNetwork) -> ViewSet:
    """Find what to evaluate on; UserError if it does not go with the network or with what is to be done."""
    episode_type = args.episode_type
    if episode_type is None:
        raise UserError(f"{args.fn_in_model} does not tell what it was trained on; pass --episode_type")
    for mode, types in (("sample_html", FEW_SHOT), ("sample_iterative", (OPEN_ENDED,))):
        if getattr(args, mode) and episode_type not in types:
            raise UserError(f"--{mode} needs the type {' or '.join(types)}; found {episode_type}")
    if episode_type == OPEN_ENDED and any(getattr(args, mode) for mode in ANSWERING if mode != "sample_iterative"):
        raise UserError(f"{OPEN_ENDED} has no right answers; only --sample_iterative goes with it")
    views = evaluation_views(episode_type, args.data_dir)
    if views.language != trained.language:
        raise UserError(f"--episode_type {episode_type} has another vocabulary than the network")
    return views


def score(name: str, args: argparse.Namespace, episodes: Sequence[AnsweredEpisode]) -> dict[str, Any]:
    """Print the accuracy of answers."""
    mean = accuracy(episodes)
    if args.verbose:
        print(listing(episodes))
    shown = ["n/a" if share is None else f"{share:.2f} %" for share in mean[:3]]
    print(f"{name}: retrieve {shown[0]}, novel {shown[1]} (SD {shown[2]}), {mean.n_episodes} episodes")
    return mean._asdict()


def score_targets(args: argparse.Namespace, trained: TrainedNetwork, views: ViewSet) -> dict[str, Any]:
    """Compute how likely the targets are, with the given lapse, with the best, or both."""
    log_p = symbol_log_p(trained, views, args.batch_size, args.seed, args.ll_nrep)
    n_choices = len(trained.language.target.words) + 1

    def likelihood_of(lapse: float) -> Likelihood:
        return likelihood(log_p, lapse, n_choices)

    report = {}
    if args.ll:
        score = likelihood_of(args.ll_p_lapse)
        spread = "" if score.total_sd is None else f" (SD {score.total_sd:.2f} over {args.ll_nrep} repetitions)"
        total = f"log-likelihood {score.total:.2f} nats{spread}"
        print(f"{total}, {score.n_symbols:.1f} symbols, {score.per_symbol:.4f} a symbol")
        report["ll"] = {"lapse": args.ll_p_lapse, "repetitions": args.ll_nrep, **score._asdict()}
    if args.fit_lapse:
        lapse, score = fit_lapse(likelihood_of)
        print(f"best lapse {lapse}: log-likelihood {score.total:.2f} nats, {score.per_symbol:.4f} a symbol")
        report["fit_lapse"] = {"lapse": lapse, "repetitions": args.ll_nrep, **score._asdict()}
    return report


def answers_path(args: argparse.Namespace, trained: TrainedNetwork) -> Path:
    """Name the JSON of sampled answers; a page and a listing go beside it."""
    name = f"{trained.episode_type or 'unknown'}_{Path(args.fn_in_model).stem}.json"
    return Path(args.results_dir / args.episode_type / name)


def write_answers(path: Path, about: dict[str, Any], episodes: Sequence[AnsweredEpisode]) -> dict[str, Any]:
    """Print and return the kinds of answers to novel queries, and write all answers as page, listing and JSON."""
    pairs = [[(one.query, one.answer) for one in episode.answered if not one.is_retrieve] for episode in episodes]
    file = AnswerFile(path.stem, about["episode_type"], pairs)
    table, task = kinds_table([file]), "Open-ended" if file.is_open_ended else "Few-shot"
    print(table)
    described = f"{file.name}, {len(episodes)} episodes of {file.episode_type}, sampled with seed {about['seed']}"
    page = answers_page(f"{task} answers: {described}", table, [file])
    save_bytes(path.with_suffix(".html"), page.encode())
    save_bytes(path.with_suffix(".txt"), f"{listing(episodes, has_right_answers=not file.is_open_ended)}\n".encode())
    save_json(path, {**about, "name": file.name, LISTED: file.listed()})
    print(f"written to {path.with_suffix('.html')}, .txt and .json")
    if file.is_open_ended:
        return {"open_ended": [one._asdict() for one in file.open_ended()]}
    return {"few_shot": file.few_shot()._asdict()}


def refuse_other(path: Path, about: dict[str, Any], names: Sequence[str], option: str) -> None:
    """Keep a file of another evaluation, one that differs in the entries named, from being replaced."""
    earlier = read_json_object(path) if path.exists() else about
    advice = f"name another {option}, or pass --overwrite"
    if earlier is None:
        raise UserError(f"{path} holds something else; {advice}")
    if differing := [name for name in names if earlier.get(name) != about[name]]:
        raise UserError(f"{path} is of another evaluation ({', '.join(differing)}); {advice}")


def answer(args: argparse.Namespace, trained: TrainedNetwork, views: ViewSet, about: dict[str, Any]) -> dict[str, Any]:
    """Have the queries answered in the ways asked for, print, write the answers; returns what was found."""
    chance = torch.Generator(next(trained.model.parameters()).device).manual_seed(args.seed)
    asked, length, path = list(views_of(views, args.seed)), args.max_length_eval, answers_path(args, trained)
    report: dict[str, Any] = {}
    if args.sample_iterative:
        answers = answer_one_by_one(trained, asked, length, chance)
        return {"sample_iterative": write_answers(path, about, answers)}
    if (longest := max(len(target) for view in asked for _, target in view.query)) > length:
        raise UserError(f"some right answers have {longest} symbols; pass --max_length_eval {longest} or more")
    if args.max:
        report["max"] = score("max", args, answer_views(trained, asked, args.batch_size, length))
    if args.sample or args.sample_html:
        answers = answer_views(trained, asked, args.batch_size, length, chance)
        if args.sample:
            report["sample"] = score("sample", args, answers)
        if args.sample_html:
            report["sample_html"] = write_answers(path, about, answers)
    return report


def evaluate(args: argparse.Namespace, trained: TrainedNetwork, views: ViewSet) -> None:
    """Evaluate a network on episodes of one type, print, write; nothing is replaced that is of something else."""
    described = f"{args.episode_type}, {args.batch_size} episodes at a time"
    print(f"on {described}, answers of up to {args.max_length_eval} symbols{views.note and f'; {views.note}'}")
    about = {
        "file": args.fn_in_model,
        "episode_type": args.episode_type,
        "epoch": trained.epoch,
        "weights": checksum(weight.cpu().numpy().tobytes() for weight in trained.model.state_dict().values()),
        "data": fingerprint_of_views(views_of(views, args.seed)),
        "asked": {name: getattr(args, name) for name in (*ANSWERING, "ll_nrep", "ll_p_lapse")},
        "seed": args.seed,
        "batch_size": args.batch_size,
        "max_length_eval": args.max_length_eval,
        "arguments": trained.arguments,
        "device": describe_device(next(trained.model.parameters()).device),
        "provenance": provenance(),
    }
    if args.fn_out_results and not args.overwrite:
        refuse_other(args.fn_out_results, about, (*DETERMINING, "asked"), "--fn_out_results")
    if (args.sample_html or args.sample_iterative) and not args.overwrite:
        refuse_other(answers_path(args, trained), about, DETERMINING, "--results_dir")
    report = {}
    if args.max or args.sample or args.sample_html or args.sample_iterative:
        report = answer(args, trained, views, about)
    if args.ll or args.fit_lapse:
        report |= score_targets(args, trained, views)
    if args.fn_out_results:
        save_json(args.fn_out_results, {**about, **report})
        print(f"written to {args.fn_out_results}")


def describe(trained: TrainedNetwork) -> str:
    """Say how far a network was trained, and how large it is."""
    config, saved = trained.model.config, trained.saved
    best = saved.get("best_val_loss")
    lowest = f"{best:.4f}" if isinstance(best, float) else "unknown"
    return (
        f"{trained.epoch} of {trained.arguments.get('nepochs', '?')} epochs of {trained.episode_type}, "
        f"{saved.get('step', '?')} steps, lowest validation loss {lowest}\n"
        f"{sum(weight.numel() for weight in trained.model.parameters())} weights: {config.nlayers_encoder} + "
        f"{config.nlayers_decoder} layers, width {config.emb_size}, {config.nheads} heads, "
        f"{config.ff_mult * config.emb_size} feed-forward, {config.act}"
    )


def main() -> None:
    """Evaluate, print, write."""
    args = parse_arguments()
    device = choose_device(args.gpu, args.cpu, args.threads)
    trained = load_network(args.dir_model / args.fn_in_model, device)
    print(f"{args.fn_in_model}: {describe(trained)}\non {describe_device(device)}")
    args.episode_type = args.episode_type or trained.episode_type
    args.batch_size = args.batch_size or trained.arguments.get("batch_size", 25)
    asks = any(getattr(args, mode) for mode in ANSWERING)
    views = find_views(args, trained) if asks else None
    history = trained.saved.get("history") or []
    if args.dashboard:  # before all other work
        from biml.dashboard import DRAWN, save_training  # here, since matplotlib takes long

        if not (history and all({*DRAWN} <= row.keys() for row in history)):
            raise UserError(f"{args.fn_in_model} holds no history of its training; --dashboard has nothing to draw")
    if views is not None:
        evaluate(args, trained, views)
    if args.dashboard:
        path = args.dir_model / f"{Path(args.fn_in_model).stem}_dashboard.png"
        save_training(path, history, f"{args.fn_in_model}, {trained.episode_type}", args.overwrite)


if __name__ == "__main__":
    run_script(main)
