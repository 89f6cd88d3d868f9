"""Symbolic baselines: how likely people's answers are for someone who follows rules and lapses.

    python -m biml.symbolic --data_dir data

Few-shot: one model knows only the gold grammar; the other also answers a fifth of the queries by the heuristics that
networks are trained with. Open-ended: a participant answers one to one, with any colour in every place; or iconically
too, with the same colour wherever a word stands; or mutually exclusively too, with a colour of its own for each word.
All lapse: with some probability a symbol, the end included, is drawn at random instead. An output without a canonical
name counts as a colour like any other. Nothing is sampled: the sums over what may be intended are exact.

Source: Lake & Baroni 2023, Results ("symbolic" models, and the three biases).
"""

import argparse
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from biml.answering import Likelihood, fit_lapse
from biml.benchmarks import gold_episode, split
from biml.episode import Example
from biml.grammar import MINI_SCAN, OUTPUT_WORDS, Words
from biml.sampled_files import people_few_shot, people_open_ended
from biml.views import HEURISTIC, interpret_flipped
from common.command_line import OneLineParser, folder_path, json_path, positive_float, run_script
from common.errors import UserError
from common.files import json_bytes, save_unless_other
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
    """Intend what the gold grammar says or, in a fifth of the cases, what one of the two heuristics does.

    One translates word by word, with any colour for a word that is not shown alone. The other confuses the arguments of
    each function of two arguments with probability 1/2, and is given up where its answer is too long.
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


def _said(intended: str, symbol: str, lapse: float) -> float:
    """Compute how likely a symbol, or END, is where a symbol, ANY or END is intended."""
    if intended == ANY:
        meant = 0.0 if symbol == END else 1 / N_COLOURS
    else:
        meant = float(intended == symbol)
    return (1 - lapse) * meant + lapse / (N_COLOURS + 1)


def _aligned(intended: Words, answer: Words) -> list[tuple[str, str]]:
    """Pair the answer's symbols and its end with what was intended there; beyond what was intended is END."""
    return list(zip([*intended, *[END] * (len(answer) + 1)], [*answer, END], strict=False))


def answer_probability(intentions: Sequence[Intention], answer: Words, lapse: float) -> float:
    """Compute how likely an answer is: what is intended, each symbol by chance replaced by any other."""
    return math.fsum(
        intention.probability * math.prod(_said(*pair, lapse) for pair in _aligned(intention.symbols, answer))
        for intention in intentions
    )


def likelihood(intend: Callable[[Words], list[Intention]], answers: Sequence[Example], lapse: float) -> Likelihood:
    """Compute the log-likelihood of answers, in nats; every answer is possible for a lapse above 0."""
    log_p = (math.log(answer_probability(intend(answer.input), answer.output, lapse)) for answer in answers)
    return _likelihood(math.fsum(log_p), [answer.output for answer in answers])


def _likelihood(total: float, answers: Sequence[Words]) -> Likelihood:
    n_symbols = sum(len(answer) + 1 for answer in answers)
    return Likelihood(total, None, n_symbols, total / n_symbols)


Meanings = list[list[float]]
"""For each word of a participant, and each colour: how likely it makes all that stands in the word's places."""


def any_colours(meanings: Meanings) -> float:
    """Let each word mean any colour, whatever the others mean."""
    return math.prod(sum(by_colour) / N_COLOURS for by_colour in meanings)


def own_colours(meanings: Meanings) -> float:
    """Let each word mean a colour of its own, all ways equally likely."""
    ways = list(itertools.permutations(range(N_COLOURS), len(meanings)))
    return sum(math.prod(map(list.__getitem__, meanings, way)) for way in ways) / len(ways)


class Biases(NamedTuple):
    """What a participant's answers to the open-ended instructions have in common."""

    is_iconic: bool  # a word means the same colour wherever it stands
    share: Callable[[Meanings], float]  # how the words share the colours


OPEN_ENDED_MODELS = {
    "one-to-one and lapses": Biases(False, any_colours),
    "one-to-one, iconic and lapses": Biases(True, any_colours),
    "one-to-one, iconic, mutually exclusive and lapses": Biases(True, own_colours),
}


def round_log_p(biases: Biases, answers: Mapping[str, Words], lapse: float) -> float:
    """Compute the log-probability of a participant's answers, in nats; UserError if they have too many colours."""
    seen = sorted({symbol for answer in answers.values() for symbol in answer})
    if len(seen) > N_COLOURS:
        raise UserError(f"expected answers of {N_COLOURS} colours, found {', '.join(seen)}")
    log_p = 0.0
    places: dict[tuple[object, ...], list[str]] = {}  # the symbols that are meant to be the same
    for query, answer in answers.items():
        for number, (word, symbol) in enumerate(_aligned(split(query), answer)):
            if word == END:
                log_p += math.log(_said(END, symbol, lapse))
            else:
                places.setdefault((word,) if biases.is_iconic else (query, number), []).append(symbol)
    colours = [*seen, *["not used"] * (N_COLOURS - len(seen))]
    meanings = [
        [math.prod(_said(colour, symbol, lapse) for symbol in symbols) for colour in colours]
        for symbols in places.values()
    ]
    return log_p + math.log(biases.share(meanings))


def open_ended_likelihood(biases: Biases, rounds: Sequence[Mapping[str, Words]], lapse: float) -> Likelihood:
    """Compute the log-likelihood of participants' answers, in nats."""
    total = math.fsum(round_log_p(biases, answers, lapse) for answers in rounds)
    return _likelihood(total, [answer for answers in rounds for answer in answers.values()])


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(__doc__)
    help_text = "folder with data_human/, your own download of the published data"
    parser.add_argument("--data_dir", type=folder_path, default=Path("data"), metavar="DIR", help=help_text)
    help_text = "chance that a symbol is drawn at random instead (default: the one that makes the answers likeliest)"
    parser.add_argument("--ll_p_lapse", type=positive_float, metavar="P", help=help_text)
    parser.add_argument("--fn_out_results", type=json_path, metavar="PATH.json", help="also write the results")
    parser.add_argument("--overwrite", action="store_true", help="replace existing results that differ")
    args = parser.parse_args()
    if args.ll_p_lapse is not None and args.ll_p_lapse > 1:
        parser.error(f"--ll_p_lapse: expected a probability, found {args.ll_p_lapse}")
    return args


def scored(
    models: Mapping[str, Callable[[float], Likelihood]], given_lapse: float | None, answers: Sequence[Words]
) -> dict[str, Any]:
    """Score answers by each model, with the lapse given or the best, and by chance; print."""
    report = {}
    for name, score in models.items():
        lapse, best = fit_lapse(score) if given_lapse is None else (given_lapse, score(given_lapse))
        report[name] = {"lapse": lapse, **best._asdict()}
        print(f"{name}: lapse {lapse}, log-likelihood {best.total:.2f} nats, {best.per_symbol:.4f} a symbol")
    n_symbols = sum(len(answer) + 1 for answer in answers)
    print(f"chance alone: {-n_symbols * math.log(N_COLOURS + 1):.2f} nats; {len(answers)} answers, {n_symbols} symbols")
    return report


def main() -> None:
    """Score people's answers to both tasks by each model and by chance, print, write."""
    args = parse_arguments()
    answers = [Example(*pair) for episode in people_few_shot(args.data_dir).episodes for pair in episode]
    rounds = people_open_ended(args.data_dir).rounds()
    print("few-shot")  # many answers, few queries: what is intended is worked out once
    few_shot = {name: functools.partial(likelihood, functools.cache(model), answers) for name, model in MODELS.items()}
    report = scored(few_shot, args.ll_p_lapse, [answer.output for answer in answers])
    print(f"open-ended, {len(rounds)} participants")
    open_ended = {
        name: functools.partial(open_ended_likelihood, model, rounds) for name, model in OPEN_ENDED_MODELS.items()
    }
    open_report = scored(open_ended, args.ll_p_lapse, [answer for each in rounds for answer in each.values()])
    if args.fn_out_results:
        counts = {"n_answers": len(answers), "n_participants": len(rounds)}
        contents = {"models": report, "open_ended": open_report, **counts, "provenance": provenance()}
        save_unless_other({args.fn_out_results: json_bytes(contents)}, args.overwrite)
        print(f"written to {args.fn_out_results}")


if __name__ == "__main__":
    run_script(main)
