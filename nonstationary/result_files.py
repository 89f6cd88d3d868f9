"""Read what evaluate.py has written, and name what is in it. Standard library only."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path("results/nonstationary")
Estimated = tuple[float, float]  # a regret and its standard error
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


class Mean(NamedTuple):
    """A predictor's regret on a source."""

    regret: float
    error: float  # standard error: over networks where there are several, else over sequences
    n: int  # networks that differ in their seeds alone


def pooled(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, Mean]]:
    """Average what several files say of the same predictor; networks are the same if they differ in their seeds alone.

    Returns:
        By source and label, with a file's name in it where networks of different recipes share a label.
    """
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
