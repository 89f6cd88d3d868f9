"""The networks compute the paper's equations, and a query's result depends on the query and the support set alone."""

import dataclasses

import numpy as np
import pytest
import torch
from words import encode_words

from episode_batch import encode, vocabularies_of
from evaluate import store
from generate_episode import EpisodeSampler, find_experiment
from masked_cross_entropy import masked_cross_entropy
from model import MetaSeq2Seq, ModelConfig, attention
from tools.bench import plain_logits, plain_loss, plain_train_on_episode
from training_step import Learner, clip_gradients, episode_loss, gradients_of, learning_rate

VARIANTS = {
    "full": {},
    "masked": {"mask_padding": True},
    "no memory": {"disable_memory": True},
    "no memory, masked": {"disable_memory": True, "mask_padding": True},
    "no attention": {"disable_attention": True},
    "one layer": {"nlayers": 1},
    "three layers": {"nlayers": 3},
}
every_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
both_paddings = pytest.mark.parametrize("mask_padding", [False, True])


@pytest.fixture(scope="module")
def samplers(data_dir):
    return {name: EpisodeSampler(find_experiment(name), data_dir, True) for name in ("ME", "scan_prim_permutation")}


def make(samplers, episode_type="ME", dtype=torch.double, **config):
    """A small network with random weights in evaluation mode, and an episode for it."""
    torch.manual_seed(0)
    experiment = samplers[episode_type].experiment
    vocabularies = vocabularies_of(experiment)
    sizes = len(vocabularies[0]), len(vocabularies[1]), experiment.padded_length
    model = MetaSeq2Seq(ModelConfig(*sizes, **{"emb_size": 16, "dropout": 0.0, **config})).to(dtype)
    episode = samplers[episode_type].training_episode(np.random.default_rng(0), ())
    return model.eval(), encode(episode, *vocabularies), vocabularies


def logits_of(model, batch, rows=None):
    query_in, query_out = batch.query_in, batch.query_out
    if rows is not None:
        query_in, query_out = query_in.rows(rows), query_out.rows(rows)
    context = model.recall(store(model, batch), query_in.symbols, query_in.lengths)
    return model.decode(context, query_out.symbols, query_out.lengths), query_out


def real_steps(sequences):
    return torch.arange(sequences.symbols.shape[1]) < sequences.lengths[:, None]


@pytest.mark.parametrize("episode_type", ["ME", "scan_prim_permutation"])
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@every_variant
def test_fused_computation_equals_the_plain_one(samplers, episode_type, variant, training):
    """Without padding and all steps at once, the network gives the logits, loss and gradients of the plain equations.

    For the default this says also that one slot with the log of a count stands for plain padding to L steps.
    """
    model, batch, _ = make(samplers, episode_type, **variant)
    model.train(training)
    expected = plain_logits(model, batch)
    found, targets = logits_of(model, batch)
    real = real_steps(targets)
    torch.testing.assert_close(found[real], expected[real], rtol=1e-9, atol=1e-10)
    ours = torch.autograd.grad(episode_loss(model, batch), list(model.parameters()), allow_unused=True)
    theirs = torch.autograd.grad(plain_loss(expected, targets), list(model.parameters()), allow_unused=True)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-8, atol=1e-11)


@every_variant
def test_step_by_step_decoding_gives_the_same_logits(samplers, variant):
    """Feeding the target's symbols one at a time scores them as the whole sequence does."""
    model, batch, vocabularies = make(samplers, **variant)
    together, targets = logits_of(model, batch)
    context = model.recall(store(model, batch), batch.query_in.symbols, batch.query_in.lengths)
    state = model.decoder.start(context)
    symbols = torch.full_like(targets.symbols[:, 0], vocabularies[1].sos)
    for step in range(targets.symbols.shape[1]):
        logits, state, _ = model.decoder.step(symbols, state, context)
        real = targets.lengths > step
        torch.testing.assert_close(logits[real], together[real, step])
        symbols = targets.symbols[:, step]


@both_paddings
@pytest.mark.parametrize("disable_memory", [False, True])
def test_a_query_is_answered_alike_alone_and_in_company(samplers, mask_padding, disable_memory):
    """The logits of a query do not depend on which other queries are in the batch, nor on their order."""
    config = {"mask_padding": mask_padding, "disable_memory": disable_memory, "dtype": torch.float}
    model, batch, _ = make(samplers, "scan_prim_permutation", **config)
    together, targets = logits_of(model, batch)
    for rows in ([3], [7, 3], list(reversed(range(len(together))))):
        apart, _ = logits_of(model, batch, torch.tensor(rows))
        for place, number in enumerate(rows):
            length = int(targets.lengths[number])
            torch.testing.assert_close(apart[place, :length], together[number, :length], rtol=0, atol=1e-5)


@both_paddings
def test_the_order_of_the_support_items_does_not_matter(samplers, mask_padding):
    """Memory is a set."""
    model, batch, _ = make(samplers, "scan_prim_permutation", torch.float, mask_padding=mask_padding)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(batch.support_in.lengths)))
    parts = {"support_in": batch.support_in.rows(order), "support_out": batch.support_out.rows(order)}
    before, targets = logits_of(model, batch)
    after, _ = logits_of(model, dataclasses.replace(batch, **parts))
    real = real_steps(targets)
    torch.testing.assert_close(after[real], before[real], rtol=0, atol=1e-5)


@both_paddings
@every_variant
def test_support_items_and_queries_may_be_encoded_together(samplers, variant, mask_padding):
    """One batch for both gives the context that storing and recalling gives, with support items longer than queries."""
    model, batch, vocabularies = make(samplers, **{**variant, "mask_padding": mask_padding})
    for words in (["dax lug", "wif zup wif lug dax", "lug"], ["dax"]):
        queries = encode_words([one.split() for one in words], vocabularies[0])
        support = encode_words([["lug"], ["dax", "wif", "zup"], ["lug", "lug"]], vocabularies[0])
        stored = (support.symbols, support.lengths, batch.support_out.symbols, batch.support_out.lengths)
        together = model.store_and_recall(*stored, queries.symbols, queries.lengths)
        apart = model.recall(model.store(*stored), queries.symbols, queries.lengths)
        for one, other in zip(together, apart, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_training_pads_to_the_longest_query_of_the_episode(samplers):
    """As in the original release: in training the longest query of an episode has no padded step, in evaluation it may.

    Therefore L plays no part in training.
    """
    model, batch, vocabularies = make(samplers)
    queries = encode_words([["dax"] * 2, ["dax"] * 4], vocabularies[0])
    memory = store(model, batch)
    counts = {}
    for training in (False, True):
        context = model.train(training).recall(memory, queries.symbols, queries.lengths)
        counts[training] = context.log_count[:, -1].exp().round().tolist()
    assert counts == {False: [4, 2], True: [2, 0]}  # L is 7, EOS included


def test_padding_to_a_longer_length_changes_nothing_where_it_is_masked(samplers):
    """With masked padding L is without meaning; without masking it is not."""
    outcomes = {}
    for mask_padding in (False, True):
        model, batch, _ = make(samplers, mask_padding=mask_padding)
        longer, _, _ = make(samplers, mask_padding=mask_padding)
        longer.config = dataclasses.replace(longer.config, padded_length=30)
        outcomes[mask_padding] = torch.allclose(logits_of(longer, batch)[0], logits_of(model, batch)[0], atol=1e-9)
    assert outcomes == {False: False, True: True}


def test_a_query_that_fills_all_steps_has_no_padded_slot(samplers):
    """Queries of L steps and more give the padded slot no weight; shorter ones do."""
    model, batch, vocabularies = make(samplers)
    queries = encode_words([["dax"] * 6, ["dax"] * 9, ["dax"] * 2], vocabularies[0])
    context = model.recall(store(model, batch), queries.symbols, queries.lengths)
    _, weights = model.decoder.attend(context.last[:, None], context)
    assert weights[:2, 0, -1].tolist() == [0, 0]
    assert weights[2, 0, -1] > 0
    assert weights[2, 0, 3:-1].tolist() == [0] * 7  # nothing of the batch's own padding
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 1, dtype=torch.double))


def test_equal_keys_are_one_key_with_the_log_of_their_number():
    """The identity on which the padded slot rests."""
    torch.manual_seed(0)
    query, keys, values = torch.randn(4, 5, 8), torch.randn(3, 8), torch.randn(3, 8)
    many = [torch.cat((tensor, tensor[-1:].expand(6, -1))) for tensor in (keys, values)]
    expected, weights = attention(query, *many)
    log_count = torch.tensor([1.0, 1.0, 7.0]).log()
    found, one_for_all = attention(query, keys, values, log_count)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(one_for_all[..., 2], weights[..., 2:].sum(-1))
    torch.testing.assert_close(one_for_all.sum(-1), torch.ones(4, 5))


def test_without_memory_the_support_set_is_ignored(samplers):
    """`--disable_memory` is the plain seq2seq network: nothing of the support items reaches an answer."""
    model, batch, _ = make(samplers, disable_memory=True)
    fewer = dataclasses.replace(batch, support_in=batch.support_in.rows(torch.tensor([0])))
    assert torch.equal(logits_of(model, fewer)[0], logits_of(model, batch)[0])


def test_without_attention_the_last_context_step_alone_is_decoded(samplers):
    """`--disable_attention`: changing any earlier context step changes nothing."""
    model, batch, _ = make(samplers, disable_attention=True)
    context = model.recall(store(model, batch), batch.query_in.symbols, batch.query_in.lengths)
    blanked = context._replace(steps=torch.zeros_like(context.steps))
    targets = batch.query_out
    expected = model.decode(context, targets.symbols, targets.lengths)
    assert torch.equal(model.decode(blanked, targets.symbols, targets.lengths), expected)


def test_loss_is_the_mean_over_real_symbols():
    """EOS counts, padding does not, and every symbol weighs the same whichever sequence it is in."""
    torch.manual_seed(0)
    logits, targets, lengths = torch.randn(5, 6, 4), torch.randint(0, 4, (5, 6)), torch.tensor([6, 1, 3, 2, 5])
    total = 0.0
    for q, length in enumerate(lengths.tolist()):
        for u in range(length):
            total -= torch.log_softmax(logits[q, u], 0)[targets[q, u]].item()
    assert masked_cross_entropy(logits, targets, lengths).item() == pytest.approx(total / 17, rel=1e-5)
    spoilt = logits.masked_fill(~(torch.arange(6) < lengths[:, None])[..., None], 1e6)
    torch.testing.assert_close(
        masked_cross_entropy(spoilt, targets, lengths), masked_cross_entropy(logits, targets, lengths)
    )


def test_a_training_step_equals_the_plain_one(samplers):
    """Loss and updated weights are those of the plain step with torch's ordinary Adam."""
    fast, batch, _ = make(samplers)
    plain, _, _ = make(samplers)
    learner, optimizer = Learner(fast, 1e-3), torch.optim.Adam(plain.parameters(), 1e-3)
    total = 0
    for _ in range(3):
        learner.step([batch], 1e-3)
        total += plain_train_on_episode(plain, optimizer, batch)
    torch.testing.assert_close(learner.loss_sums[0], total)
    for our, their in zip(fast.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(our, their, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-4, 1e6])
def test_gradients_are_clipped_to_norm_50_in_each_part(samplers, scale):
    """Encoders and decoder are clipped apart; gradients below the limit are left as they are."""
    model, batch, _ = make(samplers)
    (episode_loss(model, batch) * scale).backward()
    before = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    for part in gradients_of(model):
        clip_gradients(part)
    for in_decoder in (False, True):
        names = [name for name in before if name.startswith("decoder.") == in_decoder]
        norm = torch.cat([before[name].flatten() for name in names]).norm()
        factor = min(1.0, 50 / norm.item())  # Lake 2019, Section 4.1
        for name, parameter in model.named_parameters():
            if name in names:
                torch.testing.assert_close(parameter.grad, before[name] * factor, rtol=1e-6, atol=1e-12)


def naive_training(model, episodes, schedule, keep_moments):
    """Train as the original release does, written plainly: two Adams, made anew when the learning rate drops."""
    decoder = list(model.decoder.parameters())
    encoders = [parameter for name, parameter in model.named_parameters() if not name.startswith("decoder.")]
    lr = 1e-3
    optimizers = [torch.optim.Adam(part, lr) for part in (encoders, decoder)]
    for number, episode in enumerate(episodes, start=1):
        for optimizer in optimizers:
            optimizer.zero_grad()
        plain_loss(plain_logits(model.train(), episode), episode.query_out).backward()
        for part, optimizer in zip((encoders, decoder), optimizers, strict=True):
            torch.nn.utils.clip_grad_norm_(part, 50.0)
            optimizer.step()
        if number % schedule == 0:
            lr *= 0.1
            for optimizer in optimizers:
                optimizer.param_groups[0]["lr"] = lr
            if not keep_moments:
                optimizers = [torch.optim.Adam(part, lr) for part in (encoders, decoder)]


@pytest.mark.parametrize("n_episodes", [2, 3, 4, 7, 9])  # before, at and after drops at 3 and 6
@pytest.mark.parametrize("keep_moments", [False, True])
def test_a_schedule_is_that_of_the_original_release(samplers, n_episodes, keep_moments):
    """Weights after a schedule are those of its naive form: the rate falls to a tenth, and Adam starts anew."""
    ours, theirs = make(samplers)[0], make(samplers)[0]
    rng, sampler = np.random.default_rng(1), samplers["ME"]
    vocabularies = vocabularies_of(sampler.experiment)
    episodes = [encode(sampler.training_episode(rng, ()), *vocabularies) for _ in range(n_episodes)]
    learner = Learner(ours, 1e-3)
    for number, episode in enumerate(episodes):
        learner.step([episode], learning_rate(1e-3, 3, number))
        if (number + 1) % 3 == 0 and not keep_moments:
            learner.restart_adam()
    naive_training(theirs, episodes, 3, keep_moments)
    for our, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(our, their, rtol=1e-7, atol=1e-10)


def test_dropout_is_on_every_embedding_and_between_layers(samplers, monkeypatch):
    """In training about half of each embedding's units are dropped; the LSTMs drop between layers, not elsewhere."""
    model, batch, _ = make(samplers, dtype=torch.float, dropout=0.5)
    dropout, shares = torch.nn.functional.dropout, []

    def spy(values, *arguments):
        result = dropout(values, *arguments)
        shares.append((values.shape[1], (result == 0).float().mean().item()))
        return result

    monkeypatch.setattr(torch.nn.functional, "dropout", spy)
    logits_of(model.train(), batch)
    widths = [16, 32, 16, 32, 16, 32, 16, 16]  # support inputs, support outputs, queries (two directions), decoder
    assert [width for width, _ in shares] == widths
    assert [share for _, share in shares] == pytest.approx([0.5] * 8, abs=0.12)
    shares.clear()
    logits_of(model.eval(), batch)
    assert [share for _, share in shares] == [0] * 8
