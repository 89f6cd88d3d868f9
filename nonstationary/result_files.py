"""Read what evaluate.py has written, and name what is in it. Standard library only."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path("results/nonstationary")
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
    return isinstance(contents, dict) and {"predictors", "example", "source", "unit"} <= contents.keys()


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
    """Write down all that makes a network but its seeds; empty for an exact predictor."""
    if not is_network(result, predictor):
        return ""
    arguments = result["network"]["arguments"]
    return json.dumps({name: arguments[name] for name in sorted(arguments) if name not in ("seed", "model_init_seed")})


def pooled(result_rows: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, tuple[float, float, int]]:
    """Average what several files say of the same predictor; networks are the same if they differ in their seeds alone.

    Args:
        result_rows: results and rows of their predictors.
    Returns:
        By label (with the file's name where networks of different recipes share a label): the mean regret, its standard
        error, and the number of networks. The error is that over networks where there are several, else that over
        sequences.
    """
    groups: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
    for result, row in result_rows:
        which = result["network"]["file"] if is_network(result, row["predictor"]) else "exact"
        key = label(result, row["predictor"]), recipe(result, row["predictor"])
        groups.setdefault(key, {})[which] = row["regret"], row["regret_error"]
    labels = [name for name, _ in groups]
    means = {}
    for (name, _), values in groups.items():
        regrets = [regret for regret, _ in values.values()]
        error = next(iter(values.values()))[1]
        if len(regrets) > 1:
            error = statistics.stdev(regrets) / len(regrets) ** 0.5
        shown = name if labels.count(name) == 1 else f"{name} ({next(iter(values))})"
        means[shown] = statistics.mean(regrets), error, len(regrets)
    return means


def source_label(name: str) -> str:
    """Name a source for people."""
    return {"ptw": "PTW", "lin": "LIN"}.get(name, name.replace("_", " "))
