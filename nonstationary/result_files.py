"""Read what evaluate.py has written, and name what is in it. Standard library only."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path("results/nonstationary")
Estimated = tuple[float, float]  # a regret and its standard error
SETTINGS = ("seq_length", "n_eval", "eval_seed", "ptw_depth", "chunk_length")
"""What, with source and unit, has to be equal for results to stand side by side."""
SEEDS_AND_LOGS = ("seed", "model_init_seed", "log_every", "eval_every", "n_eval", "eval_seed", "competitors")
"""Arguments of the training command that make no other kind of network."""
EXACT_NAMES = {"kt": "KT", "kt_oracle": "KT oracle", "ptw": "PTW", "lin": "LIN"}


def read_results(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Read result files, in the order given.

    Raises:
        ValueError: if there is none, or one is missing or something else.
    """
    if not paths:
        raise ValueError("expected result files of `python -m nonstationary.evaluate`, found none")
    results = []
    for path in paths:
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: cannot be read ({error})") from None
        if not is_result(result):
            raise ValueError(f"{path} is no result file of `python -m nonstationary.evaluate`")
        results.append({**result, "path": str(path)})
    return results


def is_result(contents: Any) -> bool:
    """Tell an evaluation's results from other JSON files."""
    needed = {"predictors", "example", "source", "unit", "reference", "network", *SETTINGS}
    return isinstance(contents, dict) and needed <= contents.keys()


def is_network(result: dict[str, Any], predictor: str) -> bool:
    """Tell the network's row of a result from those of the exact predictors."""
    return result["network"] is not None and predictor == result["network"]["config"]["model"]


def label(result: dict[str, Any], predictor: str) -> str:
    """Name a predictor for people; a network with what it was trained on."""
    if not is_network(result, predictor):
        return EXACT_NAMES[predictor]
    config, trained_on = result["network"]["config"], result["network"]["trained_on"]["name"]
    kind = config["model"].replace("_", "-").upper()
    if config["model"] == "transformer":
        kind = "transformer" if config["pos_enc"] == "none" else f"transformer ({config['pos_enc']})"
    return f"{kind}, trained on {source_label(trained_on)}"


def recipe(result: dict[str, Any], predictor: str) -> str:
    """Write down all that makes a network, its seeds left out; empty for an exact predictor."""
    if not is_network(result, predictor):
        return ""
    arguments = result["network"]["arguments"]
    return json.dumps({name: arguments[name] for name in sorted(arguments) if name not in SEEDS_AND_LOGS})


def setting(result: dict[str, Any]) -> str:
    """Write down what has to be equal for results to stand side by side: all but the names of source and network."""
    source = {name: value for name, value in result["source"].items() if name != "name"}
    return json.dumps([source, result["unit"], *(result[name] for name in SETTINGS)])


def check_comparable(results: Sequence[dict[str, Any]]) -> None:
    """Raise ValueError, naming two files, if results cannot stand side by side."""
    for one in results:
        if setting(one) != setting(results[0]):
            names = ("unit", *SETTINGS, "source")
            differing = next(name for name in names if one[name] != results[0][name])
            raise ValueError(
                f"{one['path']} has another {differing} than {results[0]['path']}; give results of one kind only"
            )


class Mean(NamedTuple):
    """A predictor's regret on a source."""

    regret: float
    error: float  # standard error: over networks where there are several, else over sequences
    n: int  # networks that differ in their seeds alone


def pooled(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, Mean]]:
    """Average what several files say of the same predictor; networks are the same if they differ in their seeds alone.

    Raises:
        ValueError: if the results cannot stand side by side.
    Returns:
        By source and label, with a file's name in it where networks of different recipes share a label.
    """
    check_comparable(results)
    groups: dict[tuple[str, str], dict[str, dict[str, Estimated]]] = {}  # by label and recipe, source, file
    for result in results:
        for row in result["predictors"]:
            key = label(result, row["predictor"]), recipe(result, row["predictor"])
            which = result["network"]["file"] if is_network(result, row["predictor"]) else "exact"
            on_source = groups.setdefault(key, {}).setdefault(result["source"]["name"], {})
            on_source[which] = row["regret"], row["regret_error"]
    labels = [name for name, _ in groups]
    means: dict[str, dict[str, Mean]] = {}
    for (name, _), sources in groups.items():
        files = sorted(file for found in sources.values() for file in found)
        shown = name if labels.count(name) == 1 else f"{name} ({files[0]})"
        for source, found in sources.items():
            means.setdefault(source, {})[shown] = _mean(list(found.values()))
    return means


def _mean(found: Sequence[Estimated]) -> Mean:
    regrets = [regret for regret, _ in found]
    error = found[0][1] if len(found) == 1 else statistics.stdev(regrets) / len(regrets) ** 0.5
    return Mean(statistics.mean(regrets), error, len(regrets))


def source_label(name: str) -> str:
    """Name a source for people."""
    return {"ptw": "PTW", "lin": "LIN"}.get(name, name.replace("_", " "))
