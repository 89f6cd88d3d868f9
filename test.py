"""Score a trained network on the test commands of its experiment, or draw what it attends to.

    python test.py --fn_in_model net_scan_prim_permutation.tar

prints a report and writes <results_dir>/res_test_scan_prim_permutation.json. With --split or --support it is another
test, and they are in the name of what is written. The result of a network that was trained in another way or on other
data is not replaced, nor another picture, unless --overwrite is given.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from checkpoint import Checkpoint, add_network_options, load_checkpoint, network_path, short_name, without_places
from common.command_line import OneLineParser, add_results_folder, png_path, positive_int, run_script
from common.devices import add_device_options, choose_device, describe_device
from common.errors import UserError
from common.files import digest, in_name, read_json_object, save_json
from common.provenance import provenance
from episode_batch import episode_from_items, items_of, vocabularies_of
from evaluate import Answer, answer_episodes, break_down, count, explain, find_supports, find_test, in_words, one_word
from generate_episode import EXPERIMENTS, Episode, EpisodeSampler, scan_files
from scan_util import TESTED_SPLITS, SplitFile, add_data_folder, describe_split, typed_items

UNFINISHED = "UNFINISHED: this network has not been trained to its end"
AUGMENTED_TRAINING_COMMANDS = 7706  # as many as addprim_jump tests


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    group = parser.add_argument_group("files")
    add_network_options(group)
    add_results_folder(group)
    add_data_folder(group)
    help_text = "replace the result of another network, or another picture, of the same name"
    group.add_argument("--overwrite", action="store_true", help=help_text)
    add = parser.add_argument_group("scoring").add_argument
    help_text = "what the checkpoint must have been trained on (default: any type)"
    add("--episode_type", choices=list(EXPERIMENTS), metavar="TYPE", help=help_text)
    help_text = "score on another test: the name of a SCAN split, or a file of lines 'IN: <words> OUT: <words>'"
    add("--split", metavar="NAME|FILE", help=help_text)
    help_text = "what is in memory instead of the test's support items: 'input words -> output words; ...'"
    add("--support", type=typed_items, default=(), metavar="ITEMS", help=help_text)
    help_text = "symbols after which an answer is cut off (default: as trained)"
    add("--max_length_eval", type=positive_int, metavar="N", help=help_text)
    help_text = "keep padded steps out of the decoder's attention (default: as trained)"
    add("--mask_padding", action=argparse.BooleanOptionalAction, help=help_text)
    add("--verbose", action="store_true", help="print every query with its output")
    add = parser.add_argument_group("attention").add_argument
    help_text = "draw the attention weights for this query instead of scoring, with the test's first support set"
    add("--plot_attention", metavar="QUERY", help=help_text)
    help_text = "the picture (default: <results_dir>/attention_<name>_<query>.png); its JSON goes beside it"
    add("--fn_out_plot", type=png_path, metavar="PATH.png", help=help_text)
    add_device_options(parser)
    args = parser.parse_args()
    if args.fn_out_plot is not None and args.plot_attention is None:
        parser.error("--fn_out_plot goes with --plot_attention")
    if (args.split is not None or args.support) and args.plot_attention is not None:
        parser.error("--split and --support go with scoring; query.py --plot draws the attention to any support items")
    args.results_dir = args.results_dir or args.dir_model
    return args


def network_name(checkpoint: Checkpoint, args: argparse.Namespace) -> str:
    """Name a network in the files about it, with the options that it is scored with but was not trained with."""
    trained = {"mask_padding": False, **checkpoint.arguments}  # the original release has no such flag
    parts = [short_name(network_path(args))]
    if args.mask_padding not in (None, trained["mask_padding"]):
        parts += ["with" if args.mask_padding else "without", "mask_padding"]
    if args.max_length_eval not in (None, trained["max_length_eval"]):
        parts += ["with", f"max_length_eval{args.max_length_eval}"]
    return "_".join(parts)


def result_name(name: str, args: argparse.Namespace) -> str:
    """Name the result of a network's test; another split, file or support set gives another name."""
    parts = ["res_test", name]
    if args.split is not None:
        is_file = args.split not in TESTED_SPLITS
        parts += ["on", f"{Path(args.split).stem}-{digest(Path(args.split))[:8]}" if is_file else args.split]
    if args.support:
        parts += ["shown", in_name(",".join(map(one_word, args.support)))]
    return "_".join(parts) + ".json"


def check_same_network(path: Path, about: dict[str, Any]) -> None:
    """Refuse to replace a result of another network or other data; that of the same one with fewer episodes may go.

    Raises:
        UserError: if the file holds another one, or something else.
    """
    if not path.exists():
        return
    earlier = read_json_object(path)
    if earlier is None or not isinstance(earlier.get("arguments"), dict):
        raise UserError(f"{path} does not say which network it is about; pass --overwrite to replace it")
    data = about.keys() - {"arguments"}
    before, now = ({**one["arguments"], **{name: one.get(name) for name in data}} for one in (earlier, about))
    differing = {name for name in {*before, *now} if before.get(name) != now.get(name)}
    if before.get("num_episodes", 0) < now["num_episodes"]:
        differing.discard("num_episodes")
    if differing:
        named = ", ".join(sorted(differing))
        raise UserError(f"{path} is about another network or test ({named}); pass --overwrite to replace it")


def about_test(checkpoint: Checkpoint, args: argparse.Namespace) -> dict[str, Any]:
    """Say which network is tested on which data, as far as another one must not replace its result."""
    if args.split is None:
        files = scan_files(checkpoint.experiment, of_test=True, data_dir=args.data_dir)
    else:
        files = [describe_split(args.data_dir, "test", args.split)] if args.split in TESTED_SPLITS else []
    about = {
        "arguments": without_places(checkpoint.arguments),
        "scan_files": [file._asdict() for file in files],
        "training_scan_files": checkpoint.saved.get("scan_files", []),
    }
    if checkpoint.experiment.files is not None:
        about["data_files"] = [file._asdict() for file in checkpoint.experiment.files]
    if args.support:
        about["support"] = [" -> ".join(item) for item in in_words(args.support)]
    if args.split is not None and not files:
        about["split_sha256"] = digest(Path(args.split))
    return about


def training_commands(checkpoint: Checkpoint, data_dir: Path) -> list[Episode]:
    """Put the training commands of a standard seq2seq network together, each distinct one once.

    Of the endless augmented ones take as many as the test has, with a fixed seed. There are none for a network that was
    meta-trained, nor, after a note, if a file of the user's own is gone or has changed.

    Raises:
        UserError: if a file of SCAN cannot be read.
    """
    experiment = checkpoint.experiment
    if not experiment.is_standard:
        return []
    try:
        sampler = EpisodeSampler(experiment, data_dir, support_loss=False)
        commands = sampler.training_commands(np.random.default_rng(0), at_most=AUGMENTED_TRAINING_COMMANDS)
    except UserError as error:
        if experiment.files is None:
            raise
        print(f"note: the training commands are not scored: {error}", file=sys.stderr)
        return []
    return [episode_from_items([], items_of(commands, *vocabularies_of(experiment)), *checkpoint.vocabularies)]


def report_of(
    checkpoint: Checkpoint, split: str, answered: Sequence[Answer], trained: Sequence[Answer]
) -> dict[str, Any]:
    """Gather what was counted, `trained` on training commands, and what is known of the network and the machine.

    Raises:
        UserError: if every query is a support item, so that none is new.
    """
    retrieval, new = count(answered)
    if not new.total:
        raise UserError(f"no query of {split} is new: all of them are support items")
    report = {"episode_type": checkpoint.experiment.name, "split": split, "accuracy": new.percent, **new._asdict()}
    for name, percent, counted in (
        ("retrieval", "retrieval", retrieval),
        ("train", "train_accuracy", count(trained).generalize),
    ):
        if counted.total:
            report |= {percent: counted.percent, f"{name}_correct": counted.correct, f"{name}_total": counted.total}
    saved, breakdown = checkpoint.saved, break_down([one for one in answered if not one.is_support])
    return report | {
        "episode": checkpoint.episode,
        "num_episodes": checkpoint.num_episodes,
        "finished": checkpoint.episode >= checkpoint.num_episodes,
        "weights_only": "weights_only" in saved,
        "mask_padding": checkpoint.model.config.mask_padding,
        "mask_padding_in_training": bool(checkpoint.arguments.get("mask_padding", False)),
        "max_length_eval": checkpoint.max_length_eval,
        "training_seconds": saved.get("seconds"),
        "training_device": saved.get("device"),
        "dropout_stream_of_seeds": saved.get("dropout_stream_of_seeds", [checkpoint.arguments.get("seed")]),
        "device": describe_device(checkpoint.device),
        "provenance": provenance(),
        "training_provenance": saved.get("provenance"),
        "breakdown": {
            title: [{"group": name, **counted._asdict()} for name, counted in table.items()]
            for title, table in breakdown.items()
        },
    }


def print_report(report: dict[str, Any], path: Path) -> None:
    """Print a report for people."""
    trained = f"{report['episode']} of {report['num_episodes']} episodes"
    print(f"{path}: {report['episode_type']}, {trained}, scored on {report['split']}")
    if not report["finished"]:
        print(UNFINISHED)
    if report["weights_only"]:
        print("note: a network without its optimizer, which cannot be trained further")
    for file in (*report["scan_files"], *report["training_scan_files"]):
        if file["difference"]:
            print(SplitFile(**file).note)
    if report["mask_padding"] != report["mask_padding_in_training"]:
        print(f"note: scored with mask_padding {report['mask_padding']}, trained with the opposite")
    if "commit_note" in report["provenance"]:
        print(f"note: no commit is recorded: {report['provenance']['commit_note']}")
    if "support" in report:
        print(f"in memory: {'; '.join(report['support'])}; {report['split']} still decides which answers are right")
    for label, kind, what in (
        ("accuracy", "", ""),
        ("retrieval", "retrieval_", ""),
        ("training", "train_", " training commands"),
    ):
        if f"{kind}total" in report:
            correct, total = report[f"{kind}correct"], report[f"{kind}total"]
            print(f"{label:10} {100 * correct / total:6.2f} %  ({correct} of {total}{what})")
    print(f"answered in {report['seconds']:.1f} s on {report['device']}")
    for title, rows in report["breakdown"].items():
        print(f"\n{title:24} {'%':>6} {'correct':>8} {'total':>8}")
        for row in rows:
            share = 100 * row["correct"] / row["total"]
            print(f"  {row['group']:22} {share:6.2f} {row['correct']:8} {row['total']:8}")


def score(checkpoint: Checkpoint, args: argparse.Namespace) -> None:
    """Answer the whole test, write the report with all wrong answers, and print it."""
    split, episodes = find_test(checkpoint, args.data_dir, args.split, args.support)
    result_path = args.results_dir / result_name(network_name(checkpoint, args), args)
    about = about_test(checkpoint, args)
    if not args.overwrite:
        check_same_network(result_path, about)
    training = training_commands(checkpoint, args.data_dir) if args.split is None else []
    started = time.monotonic()
    answered = answer_episodes(checkpoint, episodes)
    on_training = answer_episodes(checkpoint, training)
    seconds = round(time.monotonic() - started, 2)
    report = {**report_of(checkpoint, split, answered, on_training), "seconds": seconds, **about}
    kept = ("support_set", "query", "output", "target")
    wrong = [{name: getattr(one, name) for name in kept} for one in answered if not one.is_right]
    save_json(result_path, {**report, "wrong": wrong})  # before printing, which the reader may cut off
    for one in answered if args.verbose else ():
        target = "" if one.is_right else f"  (target: {one.target})"
        print(f"{'ok   ' if one.is_right else 'WRONG'} {one.support_set}  {one.query}  ->  {one.output}{target}")
    print_report(report, network_path(args))
    print(f"\nwritten to {result_path}")


def plot(checkpoint: Checkpoint, args: argparse.Namespace) -> None:
    """Draw the attention weights for one query."""
    labelled = explain(checkpoint, in_words(find_supports(checkpoint)[0]), args.plot_attention)
    from attention_plot import save_attention  # here alone: matplotlib takes long

    name = f"attention_{network_name(checkpoint, args)}_{in_name('+'.join(args.plot_attention.split()))}.png"
    picture_path = args.fn_out_plot or args.results_dir / name
    save_attention(labelled, picture_path, args.overwrite)
    if checkpoint.episode < checkpoint.num_episodes:
        print(UNFINISHED)
    print(f"{labelled['query']}  ->  {labelled['output']}")
    print(f"written to {picture_path} and {picture_path.with_suffix('.json')}")


def main() -> None:
    """Score, or draw."""
    args = parse_arguments()
    path = network_path(args)
    checkpoint = load_checkpoint(path, choose_device(args.gpu, args.cpu, args.threads), args.mask_padding)
    checkpoint.max_length_eval = args.max_length_eval or checkpoint.max_length_eval
    name = checkpoint.experiment.name
    if args.episode_type not in (None, name):
        raise UserError(f"{path} was trained on {name}, not on --episode_type {args.episode_type}")
    (score if args.plot_attention is None else plot)(checkpoint, args)


if __name__ == "__main__":
    run_script(main)
