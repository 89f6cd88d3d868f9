"""Evaluate a trained network: accuracy and kinds of answers, likelihood of people's, the best lapse, its training.

    python -m biml.eval --fn_in_model net_BIML.tar --max
    python -m biml.eval --fn_in_model net_BIML.tar --episode_type few_shot_gold --max --verbose
    python -m biml.eval --fn_in_model net_BIML.tar --episode_type few_shot_gold --sample_html

Prints and, with --fn_out_results, writes JSON. Nothing that is there is replaced by what is of another network or
question, nor a picture by another one, unless --overwrite is given. --ll tells how likely the targets are (natural
logarithm): of the types named human these are people's answers.
"""

import argparse
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from biml.answering import AnsweredEpisode, answer_one_by_one, answer_views
from biml.episode_types import EVALUATED_ONLY, TRAINED, ViewSet, evaluation_views
from biml.kinds_text import few_shot_table, open_ended_table
from biml.network_file import TrainedNetwork, load_network
from biml.pages import few_shot_page, listing, open_ended_page
from biml.sampled_files import FEW_SHOT, LISTED, OPEN_ENDED, AnswerFile, listed
from biml.scoring import Likelihood, accuracy, fit_lapse, likelihood, symbol_log_p
from biml.stream import fingerprint_of_views, views_of
from biml.views import View
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
ANSWERING = ("max", "sample", "sample_html", "sample_iterative", "ll", "fit_lapse")
MODES = (*ANSWERING, "dashboard")
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
    add("--max", action="store_true", help="accuracy of the likeliest answers")
    add("--sample", action="store_true", help="accuracy of sampled answers")
    add("--sample_html", action="store_true", help="sample few-shot answers: a page, a listing, JSON, kinds of answers")
    add(
        "--sample_iterative", action="store_true", help="sample open-ended answers, one after the other; the same files"
    )
    add("--ll", action="store_true", help="log-likelihood of the targets")
    add("--fit_lapse", action="store_true", help="find the lapse with the highest log-likelihood")
    add("--dashboard", action="store_true", help="draw losses and learning rate of the training")
    add = parser.add_argument_group("how").add_argument
    help_text = "symbols after which an answer is cut off"
    add("--max_length_eval", type=positive_int, default=10, metavar="N", help=help_text)
    add("--ll_nrep", type=positive_int, default=1, metavar="R", help="repetitions, each with other orders and names")
    help_text = "chance that a symbol is drawn at random instead"
    add("--ll_p_lapse", type=dropout_probability, default=0.0, metavar="P", help=help_text)
    add("--verbose", action="store_true", help="print every answer")
    add("--fn_out_results", type=json_path, metavar="PATH.json", help="also write the results")
    help_text = "folder of what --sample_html and --sample_iterative write"
    add("--results_dir", "--dir_html", type=folder_path, default=Path("html_output"), metavar="DIR", help=help_text)
    help_text = "replace answers, results and pictures that are there under the same names and are others"
    add("--overwrite", action="store_true", help=help_text)
    add_device_options(parser)
    args = parser.parse_args()
    if not any(getattr(args, mode) for mode in MODES):
        parser.error(f"nothing to do; pass one or more of {', '.join(f'--{mode}' for mode in MODES)}")
    check_together(parser, args)
    return args


def check_together(parser: OneLineParser, args: argparse.Namespace) -> None:
    """Refuse options that have nothing to do beside the others."""
    if args.fit_lapse and args.ll_nrep == 1:
        parser.error("--fit_lapse needs several repetitions; pass --ll_nrep, 100 for example")
    if args.ll_nrep > 1 and not (args.ll or args.fit_lapse):
        parser.error("--ll_nrep goes with --ll and --fit_lapse")
    if args.ll_p_lapse > 0 and not args.ll:
        parser.error("--ll_p_lapse goes with --ll")
    if args.verbose and not (args.max or args.sample):
        parser.error("--verbose goes with --max and --sample")
    if args.fn_out_results and not any(getattr(args, mode) for mode in ANSWERING):
        parser.error("--fn_out_results has nothing to hold; --dashboard writes a picture")
    if args.max_length_eval > LONGEST_ANSWER:
        parser.error(f"--max_length_eval: expected at most {LONGEST_ANSWER}, found {args.max_length_eval}")


def find_views(args: argparse.Namespace, trained: TrainedNetwork, episode_type: str) -> ViewSet:
    """Find what to evaluate on.

    Raises:
        UserError: if it does not go with the network or with what is to be done.
    """
    if args.sample_html and episode_type not in FEW_SHOT:
        raise UserError(f"--sample_html needs one of the types {', '.join(FEW_SHOT)}; found {episode_type}")
    if args.sample_iterative and episode_type != OPEN_ENDED:
        raise UserError(f"--sample_iterative needs the type {OPEN_ENDED}; found {episode_type}")
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


def write_answers(
    args: argparse.Namespace, about: dict[str, Any], episodes: Sequence[AnsweredEpisode], stem: str
) -> dict[str, Any]:
    """Print and return the kinds of answers, and write them all as page, listing and JSON."""
    pairs = [
        [(answered.query, answered.answer) for answered in episode.answered if not answered.is_retrieve]
        for episode in episodes
    ]
    answers = AnswerFile(stem, about["episode_type"], pairs)
    described = f"{stem}, {len(episodes)} episodes of {answers.episode_type}, sampled with seed {args.seed}"
    is_open = answers.episode_type == OPEN_ENDED
    if is_open:
        text = open_ended_table({stem: answers.open_ended()})
        page = open_ended_page(f"Open-ended answers: {described}", text, answers.rounds(), answers.open_ended())
    else:
        text = few_shot_table({stem: answers.few_shot()})
        page = few_shot_page(f"Few-shot answers: {described}", text, answers.by_query())
    print(text)
    base = args.results_dir / answers.episode_type / stem
    for suffix, contents in (("html", page), ("txt", listing(episodes, has_right_answers=not is_open) + "\n")):
        save_bytes(base.with_name(f"{stem}.{suffix}"), contents.encode())
    save_json(base.with_name(f"{stem}.json"), {**about, "name": stem, LISTED: listed(pairs)})
    print(f"written to {base}.html, .txt and .json")
    return answers.kinds()


def check_replaceable(path: Path, about: dict[str, Any], names: Sequence[str], advice: str) -> None:
    """Keep answers and results from being replaced by those of something else.

    Raises:
        UserError: if the file is there and differs in one of the entries named.
    """
    if not path.exists():
        return
    earlier = read_json_object(path)
    if earlier is None:
        raise UserError(f"{path} holds something else; {advice}")
    differing = [name for name in names if earlier.get(name) != about[name]]
    if differing:
        raise UserError(f"{path} is of another evaluation ({', '.join(differing)}); {advice}")


def check_places(args: argparse.Namespace, about: dict[str, Any], stem: str) -> None:
    """Make sure, before any work, that nothing of another network or evaluation would be replaced.

    Raises:
        UserError: if something would be, and --overwrite is not given.
    """
    if args.overwrite:
        return
    if args.fn_out_results:
        advice = "name another --fn_out_results, or pass --overwrite"
        check_replaceable(args.fn_out_results, about, (*DETERMINING, "asked"), advice)
    if args.sample_html or args.sample_iterative:
        path = args.results_dir / about["episode_type"] / f"{stem}.json"
        check_replaceable(path, about, DETERMINING, "name another --results_dir, or pass --overwrite")


def answers_stem(args: argparse.Namespace, trained: TrainedNetwork) -> str:
    """Name a network's answers."""
    return f"{trained.episode_type or 'unknown'}_{Path(args.fn_in_model).stem}"


def check_length(views: Sequence[View], longest_answer: int) -> None:
    """Make sure that every answer could be right.

    Raises:
        UserError: if some would be cut off.
    """
    longest = max(len(target) for view in views for _, target in view.query)
    if longest > longest_answer:
        raise UserError(f"some right answers have {longest} symbols; pass --max_length_eval {longest} or more")


def evaluate(
    args: argparse.Namespace, trained: TrainedNetwork, views: ViewSet, about: dict[str, Any]
) -> dict[str, Any]:
    """Do what the command line asks for, print it, and return it."""
    chance = torch.Generator(next(trained.model.parameters()).device).manual_seed(args.seed)
    length = args.max_length_eval
    wants_answers = args.max or args.sample or args.sample_html or args.sample_iterative
    asked = list(views_of(views, args.seed)) if wants_answers else []
    report: dict[str, Any] = {}
    if args.max or args.sample or args.sample_html:
        check_length(asked, length)
    if args.max:
        likeliest = answer_views(trained, asked, args.batch_size, length)
        report["max"] = score("max", args, likeliest)
    if args.sample or args.sample_html:
        sampled = answer_views(trained, asked, args.batch_size, length, chance)
        if args.sample:
            report["sample"] = score("sample", args, sampled)
        if args.sample_html:
            report["sample_html"] = write_answers(args, about, sampled, answers_stem(args, trained))
    if args.sample_iterative:
        sampled = answer_one_by_one(trained, asked, length, chance)
        report["sample_iterative"] = write_answers(args, about, sampled, answers_stem(args, trained))
    if args.ll or args.fit_lapse:
        report |= score_targets(args, trained, views)
    return report


def history_of(args: argparse.Namespace, trained: TrainedNetwork) -> list[dict[str, Any]]:
    """Take the history of a network's training from its file.

    Raises:
        UserError: if the file has none.
    """
    from biml.dashboard import DRAWN

    history: list[dict[str, Any]] = trained.saved.get("history") or []
    if not history or not all({*DRAWN} <= row.keys() for row in history):
        raise UserError(f"{args.fn_in_model} holds no history of its training; --dashboard has nothing to draw")
    return history


def draw_history(args: argparse.Namespace, trained: TrainedNetwork, history: list[dict[str, Any]]) -> None:
    """Draw the history of the training.

    Raises:
        UserError: if another picture is in its place.
    """
    from biml.dashboard import save_training, show_training  # here alone: matplotlib takes long

    path = args.dir_model / f"{Path(args.fn_in_model).stem}_dashboard.png"
    title = f"{args.fn_in_model}, {trained.episode_type}"
    save_training(path, history, title, args.overwrite)
    print(f"written to {path}", flush=True)
    show_training(history, title)


def checksum(trained: TrainedNetwork) -> int:
    """Make a number that other weights would hardly share."""
    total = 0
    for weight in trained.model.state_dict().values():
        total = zlib.crc32(weight.cpu().contiguous().numpy().tobytes(), total)
    return total


def told_of(trained: TrainedNetwork) -> str:
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


def evaluate_on(args: argparse.Namespace, trained: TrainedNetwork, episode_type: str, views: ViewSet) -> None:
    """Evaluate a network on episodes of one type, print, write."""
    described = f"{episode_type}, {args.batch_size} episodes at a time, answers of up to {args.max_length_eval} symbols"
    print(f"on {described}{views.note and f'; {views.note}'}")
    about = {
        "file": args.fn_in_model,
        "episode_type": episode_type,
        "epoch": trained.epoch,
        "weights": checksum(trained),
        "data": fingerprint_of_views(views_of(views, args.seed)),
        "asked": {name: getattr(args, name) for name in (*ANSWERING, "ll_nrep", "ll_p_lapse")},
        "seed": args.seed,
        "batch_size": args.batch_size,
        "max_length_eval": args.max_length_eval,
        "arguments": trained.arguments,
        "device": describe_device(next(trained.model.parameters()).device),
        "provenance": provenance(),
    }
    check_places(args, about, answers_stem(args, trained))
    report = evaluate(args, trained, views, about)
    if args.fn_out_results:
        save_json(args.fn_out_results, {**about, **report})
        print(f"written to {args.fn_out_results}")


def main() -> None:
    """Evaluate, print, write."""
    args = parse_arguments()
    device = choose_device(args.gpu, args.cpu, args.threads)
    trained = load_network(args.dir_model / args.fn_in_model, device)
    print(f"{args.fn_in_model}: {told_of(trained)}\non {describe_device(device)}")
    episode_type = args.episode_type or trained.episode_type
    args.batch_size = args.batch_size or trained.arguments.get("batch_size", 25)
    views = None
    if any(getattr(args, mode) for mode in ANSWERING):
        if episode_type is None:
            raise UserError(f"{args.fn_in_model} does not tell what it was trained on; pass --episode_type")
        views = find_views(args, trained, episode_type)
    history = history_of(args, trained) if args.dashboard else None  # before the work, should there be none
    if views is not None and episode_type is not None:
        evaluate_on(args, trained, episode_type, views)
    if history is not None:
        draw_history(args, trained, history)


if __name__ == "__main__":
    run_script(main)
