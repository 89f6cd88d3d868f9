"""Answers that no function is needed for: what someone who only copies study examples could give.

Each of these is generous: it takes for granted that the right example, or the right cut of the query, is found.
"""

from collections.abc import Callable, Sequence

from biml.grammar import Grammar, Words

Study = Sequence[tuple[Words, Words]]  # inputs and outputs
Shortcut = Callable[[Words, Words, Study, Grammar | None], bool]


def is_copy(query: Words, answer: Words, study: Study, grammar: Grammar | None) -> bool:
    """Say whether the answer is that of a study example, whichever."""
    return any(answer == output for _, output in study)


def is_word_by_word(query: Words, answer: Words, study: Study, grammar: Grammar | None) -> bool:
    """Say whether the answer is the colours of the query's words, in their order; functions have none."""
    rules = grammar.rules if grammar else ()
    colours = {rule.left[0]: rule.right for rule in rules if rule.is_primitive}
    return answer == tuple(colour for word in query for colour in colours.get(word, ()))


def is_part_by_part(query: Words, answer: Words, study: Study, grammar: Grammar | None) -> bool:
    """Say whether the query can be cut into studied inputs so that their outputs, in order, are the answer."""
    return not (query or answer) or any(
        query[: len(given)] == given
        and answer[: len(output)] == output
        and is_part_by_part(query[len(given) :], answer[len(output) :], study, grammar)
        for given, output in study
        if given
    )


def is_put_together(query: Words, answer: Words, study: Study, grammar: Grammar | None) -> bool:
    """Say whether the query can be cut into studied inputs and words with a colour, mixed, that give the answer."""
    rules = grammar.rules if grammar else ()
    words = [(rule.left, rule.right) for rule in rules if rule.is_primitive]
    return is_part_by_part(query, answer, [*study, *words], grammar)


SHORTCUTS: dict[str, Shortcut] = {
    "a study example's answer": is_copy,
    "the colours of its words": is_word_by_word,
    "answers of study examples, one after the other": is_part_by_part,
}
MIXTURE = "both, one after the other"


def needs_function(query: Words, answer: Words, study: Study, grammar: Grammar | None) -> bool:
    """Say whether none of the shortcuts gives the answer; a mixture of them may."""
    return not any(gives(query, answer, study, grammar) for gives in SHORTCUTS.values())
