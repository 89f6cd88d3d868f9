"""Compare a trained network with the exact predictors on a fixed set of sequences.

    python -m nonstationary.evaluate --fn_in_model net_lstm_ptw.tar --data_distribution lin

prints each predictor's cumulative regret and its difference, sequence by sequence, from the source's own exact mixture,
both with standard errors. It writes the same as JSON, with the mean regret of each step and one example sequence.
Without a network: --bayes_only.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from common.command_line import (
    OneLineParser,
    add_model_folder,
    checkpoint_name,
    folder_path,
    json_path,
    natural_int,
    positive_int,
    run_script,
)
from common.devices import add_device_options, choose_device, describe_device, keep_freed_memory
from common.errors import UserError
from common.files import save_json
from common.provenance import provenance
from nonstationary.network_config import check_length
from nonstationary.networks import TrainedNetwork, load_network
from nonstationary.options import (
    EVAL_SEED,
    add_source_options,
    competitors,
    depth_int,
    source_of,
    two_or_more,
)
from nonstationary.predictors import OWN_MIXTURE, PREDICTORS, USUAL, check_depth, usual_predictors
from nonstationary.regret import (
    NATS_IN,
    Estimate,
    Predictor,
    Scores,
    estimate,
    exact_predictor,
    fixed_sequences,
    network_predictor,
    score,
)
from nonstationary.result_files import FOLDER, OF_DEPTH, SETTINGS, identity, read_results, unfinished
from nonstationary.sources import Sequences, Source, ptw_depth

DIGITS = 6  # of the numbers of single steps in the result file: decimals of regrets, significant ones of predictions


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    group = parser.add_argument_group("network")
    which = group.add_mutually_exclusive_group(required=True)
    which.add_argument("--fn_in_model", type=checkpoint_name, metavar="NAME.tar", help="the network's checkpoint")
    which.add_argument("--bayes_only", action="store_true", help="compare the exact predictors alone")
    add_model_folder(group)
    help_text = "symbols that the network reads at a time (default: all); recurrent networks pass their state on"
    group.add_argument("--chunk_length", type=positive_int, metavar="N", help=help_text)
    add_source_options(parser, None)
    add = parser.add_argument_group("evaluation").add_argument
    add("--n_eval", type=two_or_more, default=10000, metavar="N", help="sequences, the same ones every time")
    add("--eval_seed", type=natural_int, default=EVAL_SEED, metavar="SEED", help="of these sequences")
    group = parser.add_argument_group("what to compare, and where")
    add = group.add_argument
    add("--seq_length", type=two_or_more, metavar="T", help="symbols of a sequence (default: as in training, or 256)")
    help_text = f"exact predictors, comma between (default: {','.join(USUAL)} and the source's own mixture)"
    add("--competitors", type=competitors, metavar="NAMES", help=help_text)
    add("--ptw_depth", type=depth_int, metavar="D", help="depth of PTW (default: ceil(log2 T))")
    add("--batch_size", type=positive_int, default=250, metavar="B", help="sequences at a time")
    add("--units", choices=list(NATS_IN), default="bits", help="of regrets")
    where = group.add_mutually_exclusive_group()
    help_text = f"folder of the result file <network or exact>_<source>_<T>.json (default: <dir_model>/{FOLDER})"
    where.add_argument("--results_dir", type=folder_path, metavar="DIR", help=help_text)
    help_text = "the result file itself, whatever its folder and name"
    where.add_argument("--fn_out_results", type=json_path, metavar="PATH.json", help=help_text)
    add("--overwrite", action="store_true", help="replace different results under that name")
    add_device_options(parser)
    args = parser.parse_args()
    if args.bayes_only and args.chunk_length is not None:
        parser.error("--chunk_length says how a network reads; --bayes_only has none")
    if args.ptw_depth is not None and "ptw" not in (args.competitors or USUAL):
        parser.error("--ptw_depth is for ptw, which is not among the --competitors")
    return args


def settings_of(args: argparse.Namespace, trained: TrainedNetwork | None) -> dict[str, Any]:
    """Collect all that determines a result except its predictors, as it will stand in the file.

    Raises:
        UserError: if the network has another alphabet than the source, an option has nothing to do, or the sequences
            are too long for PTW.
    """
    source = source_of(args, Source() if trained is None else trained.source, args.competitors or ())
    if trained is not None and source.num_symbols != trained.config.num_symbols:
        raise UserError(f"--num_symbols {source.num_symbols}: the network knows {trained.config.num_symbols} symbols")
    length = args.seq_length or (256 if trained is None else trained.arguments["seq_length"])
    depth = ptw_depth(length) if args.ptw_depth is None else args.ptw_depth
    check_depth(depth, length)
    settings = {
        "source": asdict(source),
        "seq_length": length,
        "n_eval": args.n_eval,
        "eval_seed": args.eval_seed,
        "unit": args.units,
        "reference": find_reference(source, args.competitors or usual_predictors(source), depth == ptw_depth(length)),
        "ptw_depth": depth,
        "chunk_length": args.chunk_length,
        "network": None if trained is None else describe(trained, args.fn_in_model),
    }
    plain: dict[str, Any] = json.loads(json.dumps(settings))  # JSON makes lists of tuples
    return plain


def find_reference(source: Source, names: Sequence[str], is_usual_depth: bool) -> str:
    """Pick the predictor from which differences are taken: the source's own mixture, else the last one.

    PTW of a depth that is not the usual one is no source's mixture; it is taken only if there is nothing else.
    """
    candidates = [name for name in names if name != "ptw" or is_usual_depth] or names
    own = OWN_MIXTURE[source.name]
    return own if own in candidates else candidates[-1]


def describe(trained: TrainedNetwork, name: str) -> dict[str, Any]:
    """Tell what a network is and how it came about."""
    return {
        "file": name,
        "config": asdict(trained.config),
        "trained_on": asdict(trained.source),
        "step": trained.step,
        "arguments": trained.arguments,
        "training_seconds": trained.saved.get("seconds"),
        "training_device": trained.saved.get("device"),
        "training_provenance": trained.saved.get("provenance"),
    }


def find_predictors(
    args: argparse.Namespace, settings: dict[str, Any], trained: TrainedNetwork | None
) -> dict[str, Predictor]:
    """Collect what is to be compared, by name.

    Raises:
        UserError: if the network cannot read the sequences.
    """
    source, length = Source(**settings["source"]), settings["seq_length"]
    predictors: dict[str, Predictor] = {}
    if trained is not None:
        check_length(trained.config, length, "--seq_length")
        if args.chunk_length is not None and args.chunk_length < length:
            check_length(trained.config, args.chunk_length, "--chunk_length")
        predictors[trained.config.model] = network_predictor(trained.network, args.chunk_length)
    names = args.competitors or usual_predictors(source)
    return predictors | {name: exact_predictor(name, source, settings["ptw_depth"]) for name in names}


def check_same_settings(path: Path, settings: dict[str, Any], predictors: dict[str, Predictor]) -> None:
    """Keep results from being replaced by different ones.

    Raises:
        UserError: if the file exists and holds a different evaluation or different predictors.
    """
    if not path.exists():
        return
    (earlier,) = read_results([path])
    differing = [name for name in ("source", "reference", *SETTINGS) if earlier[name] != settings[name]]
    differing += ["network"] * (identity(earlier) != identity(settings))
    found = {row["predictor"] for row in earlier["predictors"]}
    differing += ["choice of predictors"] * (found & PREDICTORS.keys() != predictors.keys() & PREDICTORS.keys())
    if differing:
        raise UserError(
            f"{path} holds results with another {', '.join(differing)}; "
            "name another --fn_out_results or --results_dir, or pass --overwrite"
        )


def evaluate(
    settings: dict[str, Any], predictors: dict[str, Predictor], batch_size: int, device: torch.device
) -> dict[str, Any]:
    """Score all predictors on the same sequences; gives the contents of the result file."""
    started = time.monotonic()
    reference = settings["reference"]
    sequences = fixed_sequences(
        Source(**settings["source"]), settings["n_eval"], settings["seq_length"], settings["eval_seed"]
    )
    in_order = {name: predictors[name] for name in sorted(predictors, key=lambda name: name == reference)}
    scored = score(in_order, sequences, batch_size, device)
    for name, one in scored.items():
        if not one.totals.isfinite().all():
            raise UserError(f"some predictions of {name} are infinite or NaN; such a network has diverged in training")
    return {
        **settings,
        "predictors": rows_of({name: scored[name] for name in predictors}, reference, NATS_IN[settings["unit"]]),
        "example": example_of(sequences, predictors, device),
        "seconds": round(time.monotonic() - started, 2),
        "device": describe_device(device),
        "provenance": provenance(),
    }


def rows_of(scores: dict[str, Scores], reference: str, unit: float) -> list[dict[str, Any]]:
    """Summarise scores, one row a predictor; `unit` is in nats."""
    rows = []
    for name, one in scores.items():
        total, difference = estimate(one.totals / unit), estimate((one.totals - scores[reference].totals) / unit)
        rows.append(
            {
                "predictor": name,
                "regret": total.mean,
                "regret_error": total.error,
                "difference": difference.mean,
                "difference_error": difference.error,
                "gap": one.gap,
                "regret_by_step": [round(value, DIGITS) for value in (one.by_step / unit).tolist()],
            }
        )
    return rows


def example_of(sequences: Sequences, predictors: dict[str, Predictor], device: torch.device) -> dict[str, Any]:
    """Give one sequence with all predictions of its symbols from the second on.

    It is the first sequence with three or more segments, else the very first.
    """
    number = int((sequences.segments[:, -1] >= 2).int().argmax())
    first = sequences.rows(number, number + 1).to(device)
    return {
        "symbols": first.symbols[0].tolist(),
        "segments": first.segments[0].tolist(),
        "parameters": _rounded(first.parameters),
        "predictions": {name: _rounded(predictor(first).exp()) for name, predictor in predictors.items()},
    }


def _rounded(probabilities: torch.Tensor) -> list[list[float]]:
    return [[float(f"{value:.{DIGITS}g}") for value in row] for row in probabilities[0].tolist()]


def show(report: dict[str, Any]) -> str:
    """Write the table for people."""
    unit, length, reference = report["unit"], report["seq_length"], report["reference"]
    head = f"{report['source']['name']}, {report['n_eval']} sequences of {length} symbols"
    lines = [f"{head}: cumulative regret in {unit} over symbols 2 to {length}"]
    names = {row["predictor"]: row["predictor"] for row in report["predictors"]}
    if "ptw" in names and report["ptw_depth"] != ptw_depth(length):
        names["ptw"] += f"{OF_DEPTH}{report['ptw_depth']}"
    width = max(12, *(len(name) + 1 for name in names.values()))
    heads = f"above {reference}", f"mean |q - q_{reference}|"
    wide, wider = max(20, len(heads[0]) + 2), max(24, len(heads[1]) + 2)
    lines.append(f"{'predictor':<{width}}{'regret':>18}{heads[0]:>{wide}}{heads[1]:>{wider}}")
    for row in report["predictors"]:
        total, difference = (str(Estimate(row[name], row[f"{name}_error"])) for name in ("regret", "difference"))
        lines.append(f"{names[row['predictor']]:<{width}}{total:>18}{difference:>{wide}}{row['gap']:>{wider}.4f}")
    return "\n".join(lines)


def main() -> None:
    """Evaluate, print, write."""
    args = parse_arguments()
    device = choose_device(args.gpu, args.cpu, args.threads)
    keep_freed_memory()
    trained = None if args.bayes_only else load_network(args.dir_model / args.fn_in_model, device)
    settings = settings_of(args, trained)
    stem = "exact" if trained is None else Path(args.fn_in_model).stem
    name = f"{stem}_{settings['source']['name']}_{settings['seq_length']}.json"
    path = args.fn_out_results or (args.results_dir or args.dir_model / FOLDER) / name
    predictors = find_predictors(args, settings, trained)
    if not args.overwrite:
        check_same_settings(path, settings, predictors)
    report = evaluate(settings, predictors, args.batch_size, device)
    save_json(path, report)
    print(show(report))
    if unfinished(report):
        print(f"UNFINISHED: the training of this network is at {unfinished(report)}")
    print(f"written to {path}")


if __name__ == "__main__":
    run_script(main)
