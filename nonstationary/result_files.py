"""Read what evaluate.py has written, name the predictors in it, and average over networks."""

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.errors import UserError
from nonstationary.predictors import PREDICTORS
from nonstationary.regret import NATS_IN
from nonstationary.sources import USERS, Source, check_source, ptw_depth

Result = dict[str, Any]

FOLDER = "nonstationary"  # of results, in that of the models
RESULTS = Path("out_models") / FOLDER
SETTINGS = ("unit", "seq_length", "n_eval", "eval_seed", "ptw_depth", "chunk_length")
SEEDS = ("seed", "model_init_seed")
LOGS = (
    *("log_every", "eval_every", "n_eval", "eval_seed", "competitors"),
    *("eval_data_distribution", "eval_seq_length", "eval_chunk_length"),
)
"""Arguments of the training command that change no network."""
OF_DEPTH = " of depth "

ROW = ("regret", "regret_error", "difference", "difference_error", "gap")


def read_results(paths: Sequence[Path]) -> list[Result]:
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
        try:
            check(result)
        except (LookupError, TypeError, ValueError) as error:
            reason = f"{path} is no result file of `python -m nonstationary.evaluate`, or damaged"
            raise UserError(f"{reason}: {error}") from None
        results.append({**result, "path": str(path)})
    return results


def check(result: Any) -> None:
    """Raise an error that says what is wrong if this is not what evaluate.py writes."""
    source, network, example = Source(**result["source"]), result["network"], result["example"]
    check_source(source)
    counts = [result[name] for name in ("seq_length", "n_eval", "eval_seed", "ptw_depth")]
    counts.append(result["chunk_length"] or 1)
    texts = [result["reference"]]
    if network is not None:
        config, trained_on = network["config"], network["trained_on"]
        counts += [network["step"], network["arguments"]["seq_length"], round(network["training_seconds"] or 0)]
        texts += [network["file"], config["model"], config["pos_enc"], trained_on["name"]]
    if any(type(count) is not int for count in counts) or any(type(text) is not str for text in texts):
        raise UserError(f"expected whole numbers and texts, found {counts} and {texts}")
    if result["unit"] not in NATS_IN:
        raise UserError(f"its unit is {result['unit']!r}")
    rows, length = {row["predictor"]: row for row in result["predictors"]}, result["seq_length"]
    strange = {name for name in rows if name not in PREDICTORS and not is_network(result, name)}
    if strange or result["reference"] not in rows or len(rows) < len(result["predictors"]):
        raise UserError("its predictors are not those known here, each once, the reference among them")
    for name in ("symbols", "segments"):
        check_numbers(name, example[name], length)
    check_numbers("parameters", example["parameters"], length, source.num_symbols)
    for name, row in rows.items():
        check_numbers(f"regret of {name}", [row[part] for part in ROW], len(ROW))
        check_numbers(f"regret_by_step of {name}", row["regret_by_step"], length - 1)
        check_numbers(f"example of {name}", example["predictions"][name], length - 1, source.num_symbols)


def check_numbers(name: str, values: Any, *size: int) -> None:
    """Raise an error if this is not a table of finite numbers of that size."""
    table = np.array(values)
    if table.shape != size or table.dtype.kind not in "iuf" or not np.isfinite(table).all():
        raise UserError(f"its {name} should be {' x '.join(map(str, size))} numbers")


def is_network(result: Result, predictor: str) -> bool:
    """Tell the network's row of a result from those of the exact predictors."""
    return result["network"] is not None and predictor == result["network"]["config"]["model"]


def label(result: Result, predictor: str) -> str:
    """Name a predictor for people; a network with what it was trained on."""
    if not is_network(result, predictor):
        depth = result["ptw_depth"]
        is_usual = predictor != "ptw" or depth == ptw_depth(result["seq_length"])
        return PREDICTORS[predictor] + ("" if is_usual else f"{OF_DEPTH}{depth}")
    config, trained_on = result["network"]["config"], result["network"]["trained_on"]["name"]
    kind = config["model"].replace("_", "-").upper()
    if config["model"] == "transformer":
        kind = "transformer" if config["pos_enc"] == "none" else f"transformer ({config['pos_enc']})"
    return ", ".join(filter(None, [kind, f"trained on {source_label(trained_on)}", unfinished(result)]))


def source_label(name: str) -> str:
    """Name a source for people."""
    return {"ptw": "PTW", "lin": "LIN"}.get(name, name.replace("_", " "))


def source_name(result: Result) -> str:
    """Name a result's source for people."""
    return source_label(result["source"]["name"])


def place(name: str) -> tuple[int, str]:
    """Tell where a predictor stands in a list: networks first (0) by name, then exact predictors in their order."""
    exact, kind = list(PREDICTORS.values()), name.partition(OF_DEPTH)[0]
    return exact.index(kind) + 1 if kind in exact else 0, name


def unfinished(result: Result) -> str:
    """Say how far the training of a result's network came, if not to its end; else an empty text."""
    network = result["network"] or {"step": 0, "arguments": {}}
    step = network["step"]
    wanted = network["arguments"].get("train_steps", step)
    return f"step {step} of {wanted}" if step < wanted else ""


def identity(result: Result) -> dict[str, Any]:
    """Collect all that determined a result's network, whatever its file is called; empty without a network."""
    network = result["network"]
    if network is None:
        return {}
    left_out = (*LOGS, *USERS)  # settings of its own source are in "trained on"
    arguments = {name: value for name, value in network["arguments"].items() if name not in left_out}
    return {**arguments, **network["config"], "trained on": network["trained_on"], "step": network["step"]}


def key_of(contents: Any) -> str:
    """Write plain data as something to compare and to look up by."""
    return json.dumps(contents, sort_keys=True)


def setting(result: Result) -> dict[str, Any]:
    """Collect what has to be equal for results to stand side by side: all but the names of source and network."""
    return {name: result[name] for name in SETTINGS} | {n: v for n, v in result["source"].items() if n != "name"}


def name_networks(results: Sequence[Result]) -> None:
    """Give each network its name in tables, result["name"]: the label, with what tells apart recipes that share it.

    A recipe is all that determined a network but its seeds.
    """
    groups: dict[str, list[tuple[Result, dict[str, Any]]]] = {}
    for one in results:
        if one["network"] is not None:
            recipe = {name: value for name, value in identity(one).items() if name not in (*SEEDS, "step")}
            groups.setdefault(label(one, one["network"]["config"]["model"]), []).append((one, recipe))
    for shared, group in groups.items():
        for one, recipe in group:
            own = [f"{n} {v}" for n, v in recipe.items() if any(other.get(n) != v for _, other in group)]
            one["name"] = ", ".join([shared, *own])


def counted(results: Iterable[Result]) -> tuple[list[Result], list[str]]:
    """Pick the results that count, name their networks, and say why the others are left out.

    Networks whose training is unfinished are left out; a copy, or the same network evaluated twice, counts once.
    """
    kept: dict[str, Result] = {}
    left_out = []
    for one in results:
        if unfinished(one):
            left_out.append(f"{one['path']}: its network is unfinished ({unfinished(one)})")
            continue
        names = sorted(row["predictor"] for row in one["predictors"])
        first = kept.setdefault(key_of([identity(one), one["source"]["name"], setting(one), names]), one)
        if first is not one:
            left_out.append(f"{one['path']}: the same network and evaluation as {first['path']}")
    name_networks([*kept.values()])
    return [*kept.values()], left_out


class Mean(NamedTuple):
    """A predictor's regret in a column of a table."""

    regret: float
    error: float  # standard error: over networks where there are several, else over sequences
    n: int  # networks that differ in their seeds alone

    @classmethod
    def of(cls, found: Sequence[tuple[float, float]]) -> "Mean":
        """Average regrets, given with their standard errors over sequences."""
        regrets = [regret for regret, _ in found]
        error = found[0][1] if len(found) == 1 else statistics.stdev(regrets) / len(regrets) ** 0.5
        return cls(statistics.mean(regrets), error, len(regrets))

    def __str__(self) -> str:
        """Write it into a table."""
        return f"{self.regret:.2f} ± {self.error:.2f}" + (f" (n = {self.n})" if self.n > 1 else "")


def pooled(results: Iterable[Result], column: Callable[[Result], str]) -> dict[str, dict[str, Mean]]:
    """Average what results say of the same predictor, by column and name; the results' networks must be named."""
    found: dict[str, dict[str, dict[str, tuple[float, float]]]] = {}  # by column, name, network
    for one in results:
        for row in one["predictors"]:
            its_own = is_network(one, row["predictor"])
            name, which = (one["name"], key_of(identity(one))) if its_own else (label(one, row["predictor"]), "exact")
            there = found.setdefault(column(one), {}).setdefault(name, {})
            there[which] = row["regret"], row["regret_error"]
    return {
        title: {name: Mean.of([*networks.values()]) for name, networks in names.items()}
        for title, names in found.items()
    }
