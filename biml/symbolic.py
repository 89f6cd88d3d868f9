"""Symbolic baselines: how likely people's answers are for someone who knows the gold grammar, and lapses.

    python -m biml.symbolic --data_dir data

One knows nothing but the grammar; the other also answers a fifth of the queries by the heuristics that networks are
trained with. Both lapse: with some probability a symbol, the end included, is drawn at random instead. Answers are in
canonical symbols; what has no canonical name counts as a colour like any other. Nothing is sampled: sums are exact.

Source: Lake & Baroni 2023, Results ("symbolic" models).
"""

import argparse
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from biml.benchmarks import GOLD_QUERIES, gold_episode
from biml.episode import Episode, Example
from biml.episode_types import few_shot_answers
from biml.grammar import MINI_SCAN, OUTPUT_WORDS, Words
from biml.scoring import Likelihood, fit_lapse
from biml.views import HEURISTIC, interpret_flipped
from common.command_line import OneLineParser, json_path, positive_float, run_script
from common.errors import UserError
from common.files import save_json
from common.provenance import provenance

END = "the end"  # follows every answer, and itself
ANY = "any colour"  # each as likely as any other
N_COLOURS = len(OUTPUT_WORDS)


class Intention(NamedTuple):
    """An answer that someone may have in mind before lapsing."""

    probability: float
    symbols: Words  # colours and ANY; END follows


def of_grammar(query: Words) -> list[Intention]:
    """Intend what the gold grammar says."""
    return [Intention(1.0, MINI_SCAN.interpret(query))]


def of_grammar_and_heuristics(query: Words) -> list[Intention]:
    """Intend what the gold grammar says, or, in a fifth of the cases, what one of the two heuristics does.

    One translates word by word, and takes any colour where a word is not shown alone; the other confuses the arguments
    of each function of two arguments with probability 1/2, and is given up where its answer comes out too long.
    """
    right = MINI_SCAN.interpret(query)
    shown = {example.input: example.output[0] for example in gold_episode().support if len(example.input) == 1}
    ways = list(itertools.product(*((False, True) if rule.has_two_arguments else (False,) for rule in MINI_SCAN.rules)))
    confused = [interpret_flipped(query, MINI_SCAN, way) for way in ways]
    return [
        Intention(1 - HEURISTIC, right),
        Intention(HEURISTIC / 2, tuple(shown.get((word,), ANY) for word in query)),
        *(Intention(HEURISTIC / 2 / len(ways), right if symbols is None else symbols) for symbols in confused),
    ]


MODELS: dict[str, Callable[[Words], list[Intention]]] = {
    "gold grammar and lapses": of_grammar,
    "gold grammar, heuristics and lapses": of_grammar_and_heuristics,
}


def answer_probability(intentions: Sequence[Intention], answer: Words, lapse: float) -> float:
    """Compute how likely an answer is: what is intended, symbol by symbol, each by chance replaced by any other."""
    return math.fsum(
        intention.probability
        * math.prod(itertools.starmap(_symbol_probability(lapse), _aligned(intention.symbols, answer)))
        for intention in intentions
    )


def _aligned(intended: Words, answer: Words) -> list[tuple[str, str]]:
    """Pair the answer's symbols and its end with what was intended there; beyond what was intended is END."""
    return list(zip([*intended, *[END] * (len(answer) + 1)], [*answer, END], strict=False))


def _symbol_probability(lapse: float) -> Callable[[str, str], float]:
    def probability(intended: str, symbol: str) -> float:
        if intended == ANY:
            meant = 0.0 if symbol == END else 1 / N_COLOURS
        else:
            meant = float(intended == symbol)
        return (1 - lapse) * meant + lapse / (N_COLOURS + 1)

    return probability


def likelihood(intend: Callable[[Words], list[Intention]], answers: Sequence[Example], lapse: float) -> Likelihood:
    """Compute the log-likelihood of answers, in nats; every answer is possible for a lapse above 0."""
    total = math.fsum(math.log(answer_probability(intend(answer.input), answer.output, lapse)) for answer in answers)
    n_symbols = sum(len(answer.output) + 1 for answer in answers)
    return Likelihood(total, None, n_symbols, total / n_symbols)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    help_text = "folder with data_human/, your own download of the published data"
    parser.add_argument("--data_dir", type=Path, default=Path("data"), metavar="DIR", help=help_text)
    help_text = "chance that a symbol is drawn at random instead (default: the one that makes the answers likeliest)"
    parser.add_argument("--ll_p_lapse", type=positive_float, metavar="P", help=help_text)
    parser.add_argument("--fn_out_results", type=json_path, metavar="PATH.json", help="also write the results")
    args = parser.parse_args()
    if args.ll_p_lapse is not None and args.ll_p_lapse > 1:
        parser.error(f"--ll_p_lapse: expected a probability, found {args.ll_p_lapse}")
    return args


def main() -> None:
    """Score people's answers by each model and by chance, print, write."""
    args = parse_arguments()
    episodes: list[Episode] = few_shot_answers(args.data_dir)
    answers = [answer for episode in episodes for answer in episode.query]
    strange = {" ".join(answer.input) for answer in answers} - {*GOLD_QUERIES}
    if strange:
        raise UserError(f"{args.data_dir}: expected answers to the gold queries; found one to {min(strange)!r}")
    report = {}
    for name, intend in MODELS.items():
        score = functools.partial(likelihood, functools.cache(intend), answers)  # many answers, few queries
        lapse, best = fit_lapse(score) if args.ll_p_lapse is None else (args.ll_p_lapse, score(args.ll_p_lapse))
        report[name] = {"lapse": lapse, **best._asdict()}
        print(f"{name}: lapse {lapse}, log-likelihood {best.total:.2f} nats, {best.per_symbol:.4f} a symbol")
    n_symbols = sum(len(answer.output) + 1 for answer in answers)
    print(f"chance alone: {-n_symbols * math.log(N_COLOURS + 1):.2f} nats; {len(answers)} answers, {n_symbols} symbols")
    if args.fn_out_results:
        save_json(args.fn_out_results, {"models": report, "n_answers": len(answers), "provenance": provenance()})
        print(f"written to {args.fn_out_results}")


if __name__ == "__main__":
    run_script(main)
