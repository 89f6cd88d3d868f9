"""The plain way of putting batches together and of decoding, which the fast one is timed against and must agree with.

Every query's source is written out in words and looked up one by one; every step of an answer reads all before it anew.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from biml.batch import QueryTensors
from biml.model import BIML
from biml.views import View
from biml.vocabulary import IO, Language, Vocabulary


def plain_batch(views: Sequence[View], language: Language) -> QueryTensors:
    """Make the tensors of all queries of some views."""
    sources, inputs, outputs = [], [], []
    for view in views:
        for given, target in view.query:
            words = [*language.source.decode(given), "SOS"]
            for study_given, study_target in view.support:
                words += [*language.source.decode(study_given), IO, *language.target.decode(study_target), "SOS"]
            answer = [*language.target.decode(target)]
            sources.append([*words, "EOS"])
            inputs.append(["SOS", *answer])
            outputs.append([*answer, "EOS"])
    return QueryTensors(
        _numbered(sources, language.source), _numbered(inputs, language.target), _numbered(outputs, language.target)
    )


def _numbered(rows: Sequence[Sequence[str]], vocabulary: Vocabulary) -> Tensor:
    numbers = {**vocabulary.numbers, "SOS": vocabulary.sos, "EOS": vocabulary.eos}
    longest = max(map(len, rows))
    return torch.tensor(
        [[numbers[word] for word in row] + [vocabulary.pad] * (longest - len(row)) for row in rows], dtype=torch.int64
    )


def plain_decode(model: BIML, source: Tensor, max_length: int) -> list[list[int]]:
    """Answer queries (N, S) greedily in `max_length` steps, each of which decodes the whole answer so far."""
    sos, eos = model.config.output_size - 3, model.config.output_size - 2
    with torch.inference_mode():
        encoded = model.encode(source)
        answers = torch.full((len(source), 1), sos, device=source.device)
        for _ in range(max_length):
            following = model.decode(encoded, answers)[:, -1].argmax(1)
            answers = torch.cat([answers, following[:, None]], dim=1)
    rows = answers[:, 1:].tolist()
    return [row[: row.index(eos)] if eos in row else row for row in rows]
