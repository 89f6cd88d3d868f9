"""One gradient step on one episode: loss, clipping, Adam.

Source: Lake 2019, Sections 3 ("Meta-training") and 4.1.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from episode_batch import EpisodeBatch
from evaluate import Accuracy, evaluate_episodes
from masked_cross_entropy import masked_cross_entropy
from model import MetaSeq2Seq

MAX_GRADIENT_NORM = 50.0  # Lake 2019, Section 4.1
LR_DECAY = 0.1  # Lake 2019, Section 4.1: from 0.001 to 0.0001


def make_optimizer(model: MetaSeq2Seq, lr: float) -> torch.optim.Adam:
    """Make Adam over all of the network's parameters."""
    return torch.optim.Adam(model.parameters(), lr=lr, fused=True)


def drop_learning_rate(optimizer: torch.optim.Adam, keep_moments: bool) -> None:
    """Multiply the learning rate by 0.1 and, unless the moments are kept, start Adam anew, as the original release."""
    for group in optimizer.param_groups:
        group["lr"] *= LR_DECAY
    if not keep_moments:
        optimizer.state.clear()  # Adam makes moments of 0 and counts its steps from 0 where it finds no state


def episode_loss(model: MetaSeq2Seq, batch: EpisodeBatch) -> Tensor:
    """Run the network over an episode and return its loss, a scalar in nats per target symbol."""
    support_in, support_out, query_in, query_out = batch.support_in, batch.support_out, batch.query_in, batch.query_out
    support = support_in.symbols, support_in.lengths, support_out.symbols, support_out.lengths
    context = model.store_and_recall(*support, query_in.symbols, query_in.lengths)
    logits = model.decode(context, query_out.symbols, query_out.lengths)
    return masked_cross_entropy(logits, query_out.symbols, query_out.lengths)


def clip_gradients(model: MetaSeq2Seq) -> None:
    """Scale the encoders' gradients, and on its own the decoder's, down to an l2-norm of at most 50."""
    decoder = list(model.decoder.parameters())
    in_decoder = {id(parameter) for parameter in decoder}
    encoders = [parameter for parameter in model.parameters() if id(parameter) not in in_decoder]
    for part in (encoders, decoder):
        norm = get_total_norm([parameter.grad for parameter in part if parameter.grad is not None])
        if norm.is_cuda or norm > MAX_GRADIENT_NORM:  # a GPU scales by 1 rather than wait for the comparison
            clip_grads_with_norm_(part, MAX_GRADIENT_NORM, norm)


def train_on_episode(model: MetaSeq2Seq, optimizer: torch.optim.Adam, batch: EpisodeBatch) -> Tensor:
    """Take one gradient step on an episode and return its loss, a detached scalar."""
    model.train()
    optimizer.zero_grad()
    loss = episode_loss(model, batch)
    loss.backward()
    clip_gradients(model)
    optimizer.step()
    return loss.detach()


class Learner:
    """A network and its Adam, which learn episode by episode; for several runs at once there is `LockStep`."""

    def __init__(self, model: MetaSeq2Seq, lr: float) -> None:
        self.model, self.optimizer = model, make_optimizer(model, lr)
        self._device = next(model.parameters()).device
        self.loss_sums = torch.zeros(1, dtype=torch.float64, device=self._device)  # of the one run

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def step(self, batches: Sequence[EpisodeBatch]) -> None:
        """Take a gradient step on the run's episode."""
        (batch,) = batches
        self.loss_sums += train_on_episode(self.model, self.optimizer, batch.to(self._device))

    def validate(self, episodes: Sequence[Sequence[EpisodeBatch]], max_length: int) -> list[Accuracy]:
        """Score the run on its validation episodes."""
        (own,) = episodes
        return [evaluate_episodes(self.model, [batch.to(self._device) for batch in own], max_length)]

    def drop_learning_rate(self, keep_moments: bool) -> None:
        """Multiply the rate by 0.1, see above."""
        drop_learning_rate(self.optimizer, keep_moments)

    def give_weights(self) -> None:
        """Do nothing: the network itself learns."""

    def optimizer_state(self, run: int) -> dict[str, Any]:
        """Give Adam's state, run 0 being the only one."""
        assert run == 0
        return self.optimizer.state_dict()

    def load_optimizer_states(self, states: Sequence[dict[str, Any]]) -> None:
        """Take a state of Adam over."""
        (state,) = states
        self.optimizer.load_state_dict(state)
