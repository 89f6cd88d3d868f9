"""Read what evaluate.py has written, and name what is in it."""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import UserError
from nonstationary.network_config import NetworkConfig
from nonstationary.sources import SEGMENTS, USERS, ptw_depth

FOLDER = "nonstationary"  # of results, in that of the models
RESULTS = Path("out_models") / FOLDER
Estimated = tuple[float, float]  # a regret and its standard error
SETTINGS = ("seq_length", "n_eval", "eval_seed", "ptw_depth", "chunk_length")
"""What, with source and unit, has to be equal for results to stand side by side."""
SEEDS = ("seed", "model_init_seed")
LOGS = (
    *("log_every", "eval_every", "n_eval", "eval_seed", "competitors"),
    *("eval_data_distribution", "eval_seq_length", "eval_chunk_length"),
)
"""Arguments of the training command that say what to print, and change no network."""
EXACT_NAMES = {"kt": "KT", "kt_oracle": "KT oracle", "ptw": "PTW", "lin": "LIN", "random_uniform": "random uniform"}
UNITS = ("bits", "nats")
OF_DEPTH = " of depth "


def read_results(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Read result files, in the order given.

    Raises:
        UserError: if there is none, or one is missing, damaged or something else.
    """
    if not paths:
        raise UserError("expected result files of `python -m nonstationary.evaluate`, found none")
    results = []
    for path in paths:
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path}: cannot be read ({error})") from None
        fault = fault_of(result)
        if fault:
            raise UserError(f"{path} is no result file of `python -m nonstationary.evaluate`, or damaged: {fault}")
        results.append({**result, "path": str(path)})
    return results


NUMBER, COUNT = "a number", "a whole number of at least 1"
OR_NONE = ", or null"
SHAPE: dict[str, Any] = {  # what stands in a result file: a kind, a list of one shape, or entries with their shapes
    "source": {"name": str, "alpha": NUMBER, "num_symbols": COUNT, "shift_period": COUNT, "max_segment": COUNT},
    "seq_length": COUNT,
    "n_eval": COUNT,
    "eval_seed": NUMBER,
    "unit": str,
    "reference": str,
    "ptw_depth": NUMBER,
    "chunk_length": COUNT + OR_NONE,
    "predictors": [
        {
            "predictor": str,
            **dict.fromkeys(("regret", "regret_error", "difference", "difference_error", "gap"), NUMBER),
            "regret_by_step": [NUMBER],
        }
    ],
    "example": {"symbols": [NUMBER], "segments": [NUMBER], "parameters": [[NUMBER]], "predictions": dict},
}
NETWORK_SHAPE: dict[str, Any] = {
    "file": str,
    "config": {"model": str, "pos_enc": str},
    "trained_on": SHAPE["source"],
    "step": NUMBER,
    "arguments": {"seq_length": COUNT},
    "training_seconds": NUMBER + OR_NONE,
}


def fault_of(result: Any) -> str:
    """Tell what makes a file's contents no result of an evaluation; empty if they are one."""
    if not isinstance(result, dict) or "network" not in result:
        return "it does not say of which network it is, or of none"
    fault = _misfit(SHAPE, result, "")
    if not fault and result["network"] is not None:
        fault = _misfit(NETWORK_SHAPE, result["network"], "network")
    return fault or _contradiction(result)


def _misfit(shape: Any, found: Any, where: str) -> str:
    """Tell what is missing, or of another kind than it should be; empty if nothing is."""
    if isinstance(shape, dict):
        if not isinstance(found, dict):
            return f"its {where or 'contents'} should have entries"
        parts = {name: f"{where}.{name}".strip(".") for name in shape}
        missing = [f"it has no {part}" for name, part in parts.items() if name not in found]
        return next(filter(None, [*missing, *(_misfit(shape[n], found.get(n), part) for n, part in parts.items())]), "")
    if isinstance(shape, list):
        if not isinstance(found, list) or not found:
            return f"its {where} should be a list"
        return next(filter(None, (_misfit(shape[0], one, where) for one in found)), "")
    if isinstance(shape, type):
        return "" if isinstance(found, shape) else f"its {where} should be of the kind {shape.__name__}"
    if found is None and shape.endswith(OR_NONE):
        return ""
    is_number = type(found) in (int, float) and math.isfinite(found)
    fits = is_number if shape.startswith(NUMBER) else type(found) is int and found >= 1
    return "" if fits else f"its {where} should be {shape}, and is {str(found)[:50]}"


def _contradiction(result: dict[str, Any]) -> str:
    """Tell what does not go together in a result; empty if everything does."""
    names = [row["predictor"] for row in result["predictors"]]
    strange = {name for name in names if name not in EXACT_NAMES and not is_network(result, name)}
    example, length, width = result["example"], result["seq_length"], result["source"]["num_symbols"]
    if result["source"]["name"] not in SEGMENTS or result["unit"] not in UNITS:
        return "its source or its unit is unknown"
    if strange or result["reference"] not in names or len(names) != len(set(names)):
        return "its predictors are not those known here, each once, the reference among them"
    curves = [example["symbols"], example["segments"], *([0, *row["regret_by_step"]] for row in result["predictors"])]
    if any(len(curve) != length for curve in curves):
        return f"its curves are not {length} symbols long"
    tables = {"parameters": example["parameters"]}
    tables |= {name: [[0] * width, *table] for name, table in example["predictions"].items() if type(table) is list}
    if tables.keys() != {"parameters", *names} or any(
        _misfit([[NUMBER]], table, name) or len(table) != length or any(len(row) != width for row in table)
        for name, table in tables.items()
    ):
        return "its example does not fit its predictors"
    return ""


def is_network(result: dict[str, Any], predictor: str) -> bool:
    """Tell the network's row of a result from those of the exact predictors."""
    return result["network"] is not None and predictor == result["network"]["config"]["model"]


def label(result: dict[str, Any], predictor: str) -> str:
    """Name a predictor for people; a network with what it was trained on."""
    if not is_network(result, predictor):
        depth = result["ptw_depth"]
        is_usual = predictor != "ptw" or depth == ptw_depth(result["seq_length"])
        return EXACT_NAMES[predictor] + ("" if is_usual else f"{OF_DEPTH}{depth}")
    config, trained_on = result["network"]["config"], result["network"]["trained_on"]["name"]
    kind = config["model"].replace("_", "-").upper()
    if config["model"] == "transformer":
        kind = "transformer" if config["pos_enc"] == "none" else f"transformer ({config['pos_enc']})"
    step, wanted = steps_of(result)
    return f"{kind}, trained on {source_label(trained_on)}" + (f", step {step} of {wanted}" if step < wanted else "")


def exact_kind(name: str) -> str | None:
    """Tell of which exact predictor a label is; None if it is a network's."""
    kind = name.partition(OF_DEPTH)[0]
    return kind if kind in EXACT_NAMES.values() else None


def exact_in_order(names: Iterable[str]) -> list[str]:
    """Pick the labels of exact predictors, in their usual order."""
    order = list(EXACT_NAMES.values())
    kinds = {name: kind for name in names if (kind := exact_kind(name)) is not None}
    return sorted(kinds, key=lambda name: (order.index(kinds[name]), name))


def steps_of(result: dict[str, Any]) -> tuple[int, int]:
    """Tell how many steps a result's network has been trained, and how many were wanted."""
    step: int = result["network"]["step"]
    return step, result["network"]["arguments"].get("train_steps", step)


def identity(result: dict[str, Any]) -> dict[str, Any]:
    """Collect all that determined a result's network, whatever its file is called; empty without a network."""
    if result["network"] is None:
        return {}
    network = json.loads(json.dumps(result["network"]))  # JSON makes lists of tuples
    left_out = (*LOGS, *USERS)  # settings of the source are in "trained on", others are of what it was held against
    arguments = {name: value for name, value in network["arguments"].items() if name not in left_out}
    config = {**json.loads(json.dumps(asdict(NetworkConfig()))), **network["config"]}  # earlier code knew fewer sizes
    return {**arguments, **config, "trained on": network["trained_on"], "step": network["step"]}


def recipe(result: dict[str, Any], predictor: str) -> dict[str, Any]:
    """Collect all that makes a network, its seeds left out; empty for an exact predictor."""
    if not is_network(result, predictor):
        return {}
    return {name: value for name, value in identity(result).items() if name not in (*SEEDS, "step")}


def key_of(contents: Any) -> str:
    """Write JSON's kind of data as something to compare and to look up by."""
    return json.dumps(contents, sort_keys=True)


class Counted(NamedTuple):
    """Results that count, and what is said of the others."""

    results: list[dict[str, Any]]
    left_out: list[str]


def counted(results: Iterable[dict[str, Any]]) -> Counted:
    """Leave out networks whose training is unfinished, and what was evaluated twice: a copy counts once."""
    kept: dict[str, dict[str, Any]] = {}
    left_out = []
    for one in results:
        step, wanted = (0, 0) if one["network"] is None else steps_of(one)
        if step < wanted:
            left_out.append(f"{one['path']}: its network is unfinished (step {step} of {wanted})")
            continue
        names = sorted(row["predictor"] for row in one["predictors"])
        first = kept.setdefault(key_of([identity(one), one["source"], setting(one), names]), one)
        if first is not one:
            left_out.append(f"{one['path']}: the same network and evaluation as {first['path']}")
    return Counted(list(kept.values()), left_out)


def setting(result: dict[str, Any]) -> str:
    """Write down what has to be equal for results to stand side by side: all but the names of source and network."""
    source = {name: value for name, value in result["source"].items() if name != "name"}
    return json.dumps([source, result["unit"], *(result[name] for name in SETTINGS)])


def check_comparable(results: Sequence[dict[str, Any]]) -> None:
    """Raise UserError, naming two files, if results cannot stand side by side."""
    for one in results:
        if setting(one) != setting(results[0]):
            names = ("unit", *SETTINGS, "source")
            differing = next(name for name in names if one[name] != results[0][name])
            raise UserError(
                f"{one['path']} has another {differing} than {results[0]['path']}; give results of one kind only"
            )


class Mean(NamedTuple):
    """A predictor's regret on a source."""

    regret: float
    error: float  # standard error: over networks where there are several, else over sequences
    n: int  # networks that differ in their seeds alone


def names_of(results: Iterable[dict[str, Any]]) -> dict[tuple[str, str], str]:
    """Name predictors by label and recipe: the label, with what tells recipes apart where several share it."""
    recipes = {}
    for result in results:
        for row in result["predictors"]:
            made = recipe(result, row["predictor"])
            recipes[label(result, row["predictor"]), key_of(made)] = made
    names = {}
    for key, made in recipes.items():
        alike = [other for (name, _), other in recipes.items() if name == key[0]]
        names[key] = ", ".join([key[0], *_differing(made, alike)])
    return names


def pooled(results: Sequence[dict[str, Any]], among: Sequence[dict[str, Any]] = ()) -> dict[str, dict[str, Mean]]:
    """Average what several files say of the same predictor; networks are the same if they differ in their seeds alone.

    Args:
        results: what to average.
        among: further results in which the names have to tell networks apart.
    Raises:
        UserError: if the results cannot stand side by side.
    Returns:
        By source and name.
    """
    check_comparable(results)
    names = names_of([*results, *among])
    groups: dict[tuple[str, str], dict[str, dict[str, Estimated]]] = {}  # by label and recipe, source, identity
    for result in results:
        for row in result["predictors"]:
            made = recipe(result, row["predictor"])
            key = label(result, row["predictor"]), key_of(made)
            which = key_of(identity(result)) if made else "exact"
            on_source = groups.setdefault(key, {}).setdefault(result["source"]["name"], {})
            on_source[which] = row["regret"], row["regret_error"]
    means: dict[str, dict[str, Mean]] = {}
    for key, sources in groups.items():
        for source, found in sources.items():
            means.setdefault(source, {})[names[key]] = _mean(list(found.values()))
    return means


def _differing(made: dict[str, Any], others: Sequence[dict[str, Any]]) -> list[str]:
    """Write down what tells a recipe from others."""
    names = [name for name in made if any(one.get(name) != made[name] for one in others)]
    return [f"{name} {made[name]}" for name in names]


def _mean(found: Sequence[Estimated]) -> Mean:
    regrets = [regret for regret, _ in found]
    error = found[0][1] if len(found) == 1 else statistics.stdev(regrets) / len(regrets) ** 0.5
    return Mean(statistics.mean(regrets), error, len(regrets))


def source_label(name: str) -> str:
    """Name a source for people."""
    return {"ptw": "PTW", "lin": "LIN"}.get(name, name.replace("_", " "))
