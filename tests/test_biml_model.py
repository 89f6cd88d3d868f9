"""The network has the published size, padding and later symbols do not matter, and decoding is what it says."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from biml.batch import QueryTensors, assemble
from biml.benchmarks import gold_episode
from biml.decode import choose, decode, target_log_p, with_lapse
from biml.dice import Dice
from biml.model import BIML, ModelConfig
from biml.views import rename, view_of
from biml.vocabulary import MAIN, VANILLA, Language

SMALL = ModelConfig(emb_size=16, nlayers_encoder=2, nlayers_decoder=2, ff_mult=2)
SOS, EOS, PAD = 6, 7, 8  # of the target
SOURCE_PAD = 18
CPU = torch.device("cpu")


def log_likelihood(model, batch, lapse=0.0):
    """Sum the symbols' log-probabilities of each target: (N,), and count them."""
    is_real = batch.target_out != model.target_pad
    log_p = torch.zeros(is_real.shape, dtype=torch.float64)
    log_p[is_real] = with_lapse(target_log_p(model, batch), lapse, model.config.output_size - 2)
    return log_p.sum(1), is_real.sum(1)


def shaken(config=SMALL, seed=0, scale=0.7):
    """A network in evaluation mode whose biases and norms are not what they start as, and whose answers differ."""
    torch.manual_seed(seed)
    model = BIML(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * scale * (0.3 if parameter.dim() > 1 else 1))
    return model


def gold_batch(n_views=2):
    """Queries of different lengths with study examples of different orders, some with few."""
    views = []
    for seed in range(n_views):
        renamed, _ = rename(gold_episode(), Dice(np.random.default_rng(seed)))
        views.append(view_of(renamed._replace(support=renamed.support[: 4 - 3 * seed], query=renamed.query[:8]), MAIN))
    return assemble(views, MAIN).tensors(CPU)


@pytest.fixture(scope="module")
def batch():
    return gold_batch()


def taught(batch, spelling):
    """A network that has learned some of the answers, with other symbols in place of some."""
    torch.manual_seed(0)
    model = BIML(ModelConfig(emb_size=16, nlayers_encoder=1, nlayers_decoder=2, ff_mult=2, dropout=0.0))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    is_real = batch.target_out != PAD
    target_in, target_out = batch.target_in.clone(), batch.target_out.clone()
    for symbol, other in spelling.items():
        target_in[batch.target_in == symbol], target_out[batch.target_out == symbol] = other, other
    for _ in range(40):
        optimizer.zero_grad()
        functional.cross_entropy(model(batch.source, target_in)[is_real], target_out[is_real]).backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def fluent(batch):
    """A network whose answers differ from query to query and end at different steps."""
    return taught(batch, {})


@pytest.fixture(scope="module")
def odd(batch):
    """One that has learned to answer with SOS and PAD among the colours."""
    symbols = batch.target_out[batch.target_out < SOS]
    first, second = symbols.bincount().argsort(descending=True)[:2].tolist()
    return taught(batch, {first: PAD, second: SOS})


# The network


@pytest.mark.parametrize(("language", "expected"), [(MAIN, 1_393_801), (VANILLA, 1_392_263)], ids=["main", "vanilla"])
def test_the_network_has_the_published_number_of_weights(language: Language, expected):
    """With either vocabulary, by default."""
    model = BIML(ModelConfig(len(language.source), len(language.target)))
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_weights_have_the_published_names():
    """Those of torch's transformer, two embeddings, the output layer, and a table of positions."""
    shapes = {name: tuple(weight.shape) for name, weight in BIML(ModelConfig()).state_dict().items()}
    others = {name: shape for name, shape in shapes.items() if not name.startswith("transformer.")}
    assert others == {
        "input_embedding.weight": (19, 128),
        "output_embedding.weight": (9, 128),
        "out.weight": (9, 128),
        "out.bias": (9,),
        "positional_encoding.pos_embedding": (5000, 1, 128),
    }
    assert shapes["transformer.encoder.layers.2.linear1.weight"] == (512, 128)
    assert shapes["transformer.decoder.layers.2.multihead_attn.in_proj_weight"] == (384, 128)
    assert {"transformer.encoder.norm.weight", "transformer.decoder.norm.weight"} < shapes.keys()


def test_positions_are_sinusoids():
    """Sine and cosine in turns, of wavelengths from 2 pi to 10000 * 2 pi."""
    table = BIML(SMALL).positional_encoding.pos_embedding[:, 0]
    for position in (0, 1, 7, 170):
        for pair in range(8):
            angle = position / 10000 ** (2 * pair / 16)
            expected = pytest.approx([math.sin(angle), math.cos(angle)], abs=1e-4)
            assert table[position, 2 * pair : 2 * pair + 2].tolist() == expected


@pytest.mark.parametrize("act", ["gelu", "relu"])
def test_logits_are_those_of_torchs_transformer(batch, act):
    """Embeddings without scaling plus positions; post-norm layers; masks for padding and for what comes later."""
    config = ModelConfig(emb_size=16, nlayers_encoder=1, nlayers_decoder=2, ff_mult=3, act=act)
    model = shaken(config)
    activation = {"gelu": functional.gelu, "relu": functional.relu}[act]
    plain = torch.nn.Transformer(16, 8, 1, 2, 48, 0.1, activation, batch_first=True).train()  # no fast path
    plain.load_state_dict(model.transformer.state_dict())
    for module in plain.modules():
        module.dropout = 0.0 if isinstance(module, torch.nn.MultiheadAttention) else getattr(module, "dropout", None)
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    table = model.positional_encoding.pos_embedding[:, 0]
    source, target = batch.source, batch.target_in
    length = target.shape[1]
    with torch.no_grad():
        expected = model.out(
            plain(
                model.input_embedding.weight[source] + table[: source.shape[1]],
                model.output_embedding.weight[target] + table[:length],
                tgt_mask=torch.full((length, length), True).triu(1),
                src_key_padding_mask=source == SOURCE_PAD,
                tgt_key_padding_mask=target == PAD,
                memory_key_padding_mask=source == SOURCE_PAD,
            )
        )
        torch.testing.assert_close(model(source, target), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("training", [False, True])
def test_padding_changes_no_logits(batch, training):
    """A query answers alike alone, without padding, and among longer ones."""
    model = shaken(ModelConfig(emb_size=16, nlayers_encoder=2, nlayers_decoder=2, ff_mult=2, dropout=0.0))
    model.train(training)
    wider = QueryTensors(
        *(functional.pad(part, (0, 3), value=pad) for part, pad in zip(batch, (SOURCE_PAD, PAD, PAD), strict=True))
    )
    with torch.no_grad():
        together, more = model(batch.source, batch.target_in), model(wider.source, wider.target_in)
        for row in range(len(batch.source)):
            source = batch.source[row][batch.source[row] != SOURCE_PAD]
            target = batch.target_in[row][batch.target_in[row] != PAD]
            alone = model(source[None], target[None])[0]
            for logits in (together, more):
                torch.testing.assert_close(logits[row, : len(target)], alone, rtol=1e-3, atol=1e-4)
    assert (batch.source == SOURCE_PAD).any() and (batch.target_in == PAD).any()


def test_a_prediction_does_not_see_later_symbols(batch):
    """Changing a symbol changes the logits from its own step on, and none before."""
    model = shaken()
    source = batch.source[:4]
    target = torch.randint(0, 6, (4, 6), generator=torch.Generator().manual_seed(0))
    target[:, 0] = SOS
    with torch.no_grad():
        logits = model(source, target)
        for step in range(1, 6):
            changed = target.clone()
            changed[:, step] = (target[:, step] + 1) % 6
            other = model(source, changed)
            torch.testing.assert_close(other[:, :step], logits[:, :step])
            assert ((other[:, step:] - logits[:, step:]).abs().amax(2) > 1e-3).all()


def test_query_and_study_examples_see_one_another(batch):
    """Another study example, or another query, changes every encoded step."""
    model = shaken()
    source = batch.source[:1, : int((batch.source[0] != SOURCE_PAD).sum())]
    with torch.no_grad():
        steps = model.encode(source).steps
        for place in (0, source.shape[1] - 3):
            changed = source.clone()
            changed[0, place] = (source[0, place] + 1) % 16
            assert ((model.encode(changed).steps - steps).abs().amax(2) > 1e-6).all()


def test_dropout_is_for_training_only(batch):
    """Two passes agree in evaluation mode and differ in training mode."""
    model = shaken()
    with torch.no_grad():
        one, other = (model(batch.source[:2], batch.target_in[:2]) for _ in range(2))
        assert torch.equal(one, other)
        model.train()
        one, other = (model(batch.source[:2], batch.target_in[:2]) for _ in range(2))
        assert not torch.allclose(one, other, atol=1e-2)


# Decoding


def plain_greedy(model, source, max_length, allowed=None):
    """Read the whole answer so far anew for every symbol, one query at a time, all steps."""
    answers = []
    for row in range(len(source)):
        target = torch.tensor([[SOS]])
        for _ in range(max_length):
            with torch.no_grad():
                logits = model(source[row : row + 1], target)[0, -1].clone()
            if allowed is not None:
                logits[~allowed[row]] = -math.inf
            target = torch.cat([target, logits.argmax()[None, None]], dim=1)
        answer = target[0, 1:].tolist()
        answers.append(answer[: answer.index(EOS)] if EOS in answer else answer)
    return answers


def test_keeping_earlier_steps_changes_no_answer(fluent, batch):
    """Greedy decoding is that which reads everything anew at each step; answers end at different steps."""
    answers = decode(fluent, batch.source, 7)
    assert answers == plain_greedy(fluent, batch.source, 7)
    assert len({tuple(answer) for answer in answers}) > 5
    assert len({len(answer) for answer in answers}) > 2


@pytest.mark.parametrize("symbols", [(PAD, 0, PAD, PAD, 3, 1), (SOS, SOS, 2, PAD, SOS, 4), (2, PAD, 5, SOS, 0, 0)])
def test_steps_agree_with_the_whole_after_any_symbols(batch, symbols):
    """PAD is left out by later steps, SOS is read like any other; kept steps treat them as reading anew does."""
    model = shaken()
    source = batch.source[:5]
    target = torch.tensor([[SOS, *symbols]]).expand(5, -1)
    with torch.no_grad():
        encoded = model.encode(source)
        decoding = model.start_decoding(encoded)
        for step in range(target.shape[1]):
            logits, decoding = model.decode_step(encoded, decoding, target[:, step])
            expected = model(source, target[:, : step + 1])[:, -1]
            torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(model(source, target)[:, step], expected, rtol=1e-3, atol=1e-4)


def test_greedy_answers_may_hold_start_and_padding(odd, batch):
    """A network that has learned to produces them, and goes on as if everything were read anew."""
    answers = decode(odd, batch.source, 6)
    assert answers[::2] == plain_greedy(odd, batch.source[::2], 6)
    for symbol in (PAD, SOS):  # in the middle, other symbols after them
        assert any(symbol in answer[:-1] and len(set(answer)) > 1 for answer in answers[::2])


def steps_taken(model, *arguments, **options):
    """The answers, and how many steps were computed for them."""
    taken = []

    def step(*given):
        taken.append(given)
        return type(model).decode_step(model, *given)

    model.decode_step = step
    try:
        return decode(model, *arguments, **options), len(taken)
    finally:
        del model.decode_step


def test_stopping_early_changes_no_answer(fluent, batch):
    """Decoding ends with the last query; alone, each query has the answer that it has in company."""
    answers, taken = steps_taken(fluent, batch.source, 30)
    assert taken == max(map(len, answers)) + 1 < 30
    counts = set()
    for row, answer in enumerate(answers):
        alone, count = steps_taken(fluent, batch.source[row : row + 1], 30)
        assert alone == [answer]
        assert count == len(answer) + 1
        counts.add(count)
    assert len(counts) > 2


def test_no_answer_is_longer_than_asked(batch):
    """A network that never ends is cut, without an end."""
    model = shaken()
    with torch.no_grad():
        model.out.bias[EOS] -= 100.0
    for longest in (1, 3):
        assert {len(answer) for answer in decode(model, batch.source, longest)} == {longest}


def test_choices_follow_the_softmax():
    """Every symbol, SOS and PAD too, as often as its probability says; without a generator the likeliest."""
    logits = torch.tensor([[0.0, 1.0, -1.0, 0.5, 0.2, -0.3, 0.1, 0.9, -0.5], [3.0] + [0.0] * 8])
    n = 20_000
    generator = torch.Generator().manual_seed(0)
    for row in logits:
        drawn = choose(row.expand(n, -1), generator).bincount(minlength=9) / n
        p = row.softmax(0)
        assert ((drawn - p).abs() < 4 * (p * (1 - p) / n).sqrt()).all()
    assert choose(logits, None).tolist() == [1, 0]


def test_sampled_answers_come_up_as_often_as_likely():
    """Whole answers: the share of each is the exponential of its log-likelihood; equal seeds draw equally."""
    model = shaken(scale=0.2)
    with torch.no_grad():
        model.out.weight *= 0.3
        model.out.bias.zero_()
        model.out.bias[EOS] += 1.0
    n = 2000
    source = torch.tensor([[3, 16, 17]]).expand(n, -1)
    answers, other = (decode(model, source, 3, torch.Generator().manual_seed(seed)) for seed in (3, 4))
    assert answers != other
    few, again = (decode(model, source[:9], 3, torch.Generator().manual_seed(3)) for _ in range(2))
    assert few == again
    for answer in ([], [0], [1], [2, 1], [SOS], [SOS, 3]):
        given = QueryTensors(source[:1], torch.tensor([[SOS, *answer]]), torch.tensor([[*answer, EOS]]))
        p = log_likelihood(model, given)[0].exp().item()
        assert 0.001 < p < 0.9
        assert answers.count(answer) / n == pytest.approx(p, abs=4 * (p * (1 - p) / n) ** 0.5)


@pytest.mark.parametrize("generator", [None, 5])
def test_answers_are_made_of_what_is_allowed(fluent, batch, generator):
    """Each query has its own symbols; the end is among them; greedy ones are the likeliest of those."""
    n = len(batch.source)
    allowed = torch.zeros(n, 9, dtype=torch.bool)
    for row in range(n):
        allowed[row, [row % 6, (row + 2) % 6, EOS]] = True
    seeded = None if generator is None else torch.Generator().manual_seed(generator)
    answers = decode(fluent, batch.source, 4, seeded, allowed)
    assert all(set(answer) <= {row % 6, (row + 2) % 6} for row, answer in enumerate(answers))
    assert any(answers)
    if generator is None:
        assert answers == plain_greedy(fluent, batch.source, 4, allowed)
        assert answers != decode(fluent, batch.source, 4)


def test_allowing_everything_changes_nothing(batch):
    """Nor does a mask without holes change what is sampled."""
    model = shaken()
    allowed = torch.ones(len(batch.source), 9, dtype=torch.bool)
    for seed in (None, 1):
        one, other = (None if seed is None else torch.Generator().manual_seed(seed) for _ in range(2))
        assert decode(model, batch.source, 5, one, allowed) == decode(model, batch.source, 5, other)


# Log-likelihood


@pytest.mark.parametrize("lapse", [0.0, 0.03, 0.9])
def test_a_log_likelihood_is_the_sum_over_single_steps(batch, lapse):
    """Of the target's symbols and the end, padding left out, each mixed with the uniform one; lapse 0 is plain."""
    model = shaken()
    totals, lengths = log_likelihood(model, batch, lapse)
    assert totals.dtype == torch.float64
    for row in range(len(batch.source)):
        target = batch.target_out[row][batch.target_out[row] != PAD].tolist()
        assert lengths[row] == len(target)
        with torch.no_grad():
            encoded = model.encode(batch.source[row : row + 1])
            decoding, last, total = model.start_decoding(encoded), SOS, 0.0
            for symbol in target:
                logits, decoding = model.decode_step(encoded, decoding, torch.tensor([last]))
                p = logits.double().softmax(1)[0, symbol].item()
                total += math.log((1 - lapse) * p + lapse / 7)
                last = symbol
        assert totals[row].item() == pytest.approx(total, abs=1e-3)
    if lapse == 0:
        loss = functional.cross_entropy(
            model(batch.source, batch.target_in).flatten(0, 1), batch.target_out.flatten(), ignore_index=PAD
        )
        assert (totals.sum() / lengths.sum()).item() == pytest.approx(-loss.item(), abs=1e-5)


@pytest.mark.parametrize(("language", "n_symbols"), [(MAIN, 7), (VANILLA, 5)], ids=["main", "vanilla"])
@pytest.mark.parametrize("lapse", [0.0, 0.1, 1.0])
def test_a_uniform_network_scores_the_number_of_symbols_times_a_logarithm(language, n_symbols, lapse):
    """Minus ln 7 for each symbol, the end included, ln 5 with canonical symbols; lapses change nothing."""
    gold = gold_episode()
    episode = gold if language == VANILLA else rename(gold, Dice(np.random.default_rng(0)))[0]
    batch = assemble([view_of(episode, language)], language).tensors(CPU)
    model = BIML(ModelConfig(len(language.source), len(language.target), emb_size=8, ff_mult=1)).eval()
    with torch.no_grad():
        model.out.weight.zero_()
        model.out.bias.zero_()
        model.out.bias[[language.target.sos, language.target.pad]] = -1e4
    totals, lengths = log_likelihood(model, batch, lapse)
    n = sum(len(one.output) + 1 for one in gold.query)
    assert int(lengths.sum()) == n
    assert totals.sum().item() == pytest.approx(-n * math.log(n_symbols))


def test_a_network_that_always_lapses_knows_nothing(batch):
    """With lapse 1 every network is uniform."""
    totals, lengths = log_likelihood(shaken(), batch, 1.0)
    torch.testing.assert_close(totals, -lengths.double() * math.log(7))


@pytest.mark.parametrize("lapse", [0.0, 0.03, 0.5, 1.0])
def test_probabilities_with_lapses_add_up_to_one(batch, lapse):
    """Over the colours and the end; the little that the network gives to start and padding is not lapsed to."""
    model = shaken()
    source, targets = batch.source[:1].expand(7, -1), torch.tensor([*range(6), EOS])
    first = QueryTensors(source, torch.full((7, 1), SOS), targets[:, None])
    with torch.no_grad():
        plain = model(source[:1], first.target_in[:1])[0, 0].double().softmax(0)
    p = log_likelihood(model, first, lapse)[0].exp()
    torch.testing.assert_close(p, (1 - lapse) * plain[targets] + lapse / 7, rtol=1e-4, atol=1e-9)
    assert p.sum().item() + (1 - lapse) * plain[[SOS, PAD]].sum().item() == pytest.approx(1.0, abs=1e-5)


def test_the_likelihood_of_a_target_does_not_depend_on_its_batch(batch):
    """Alone it scores as among others."""
    model = shaken()
    totals, _ = log_likelihood(model, batch, 0.03)
    for row in (0, 7, len(totals) - 1):
        alone, _ = log_likelihood(model, QueryTensors(*(part[row : row + 1] for part in batch)), 0.03)
        torch.testing.assert_close(alone[0], totals[row], rtol=1e-4, atol=1e-4)
