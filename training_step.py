"""One gradient step: loss, gradient, clipping, Adam; written once, for one run and for R runs in lock step.

Source: Lake 2019, Sections 3 ("Meta-training") and 4.1.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from episode_batch import EpisodeBatch
from masked_cross_entropy import masked_cross_entropy
from model import MetaSeq2Seq

MAX_GRADIENT_NORM = 50.0  # Lake 2019, Section 4.1
LR_DECAY = 0.1  # Lake 2019, Section 4.1: from 0.001 to 0.0001

AdamState = Mapping[str, Mapping[str, Tensor]]
"""What Adam keeps of each parameter, by its name: "step", "exp_avg" and "exp_avg_sq"."""


def learning_rate(first: float, schedule: int, episode: int) -> float:
    """Give the learning rate of the step that follows `episode` episodes: a tenth after every `schedule` of them."""
    return first * LR_DECAY ** (episode // schedule)


def make_optimizer(weights: Iterable[Tensor], lr: float) -> torch.optim.Adam:
    """Make Adam; its rate is a tensor, as a CUDA graph keeps to where a number stands, not to the number."""
    weights = list(weights)
    is_gpu = weights[0].device.type == "cuda"
    rate = torch.tensor(lr, device=weights[0].device) if is_gpu else torch.tensor(lr, dtype=torch.float64)
    return torch.optim.Adam(weights, lr=rate, fused=True, capturable=is_gpu)


def restart_adam(optimizer: torch.optim.Adam) -> None:
    """Set Adam's moments and its count of steps to 0: as the original release, which makes a new one."""
    for state in optimizer.state.values():
        for tensor in state.values():
            tensor.zero_()


def take_step(losses: Tensor, gradients: Callable[[], Sequence[Sequence[Tensor]]], optimizer: torch.optim.Adam) -> None:
    """Take a gradient step.

    Args:
        losses: a scalar, or (R,) losses of R runs, none of which depends on another run's weights.
        gradients: gives the gradients, once they are computed, of the encoders and of the decoder: (R, n) each.
        optimizer: of the weights.
    """
    optimizer.zero_grad()
    losses.sum().backward()
    for part in gradients():
        clip_gradients(part)
    optimizer.step()


def clip_gradients(part: Sequence[Tensor]) -> None:
    """Scale gradients, (R, n) each, down to an l2-norm of at most 50, those of each run on their own."""
    norms = torch.stack([torch.linalg.vector_norm(gradient, dim=1) for gradient in part])
    norm = torch.linalg.vector_norm(norms, dim=0)  # (R,)
    if norm.is_cuda or (norm > MAX_GRADIENT_NORM).any():  # a GPU scales by 1 rather than wait for the comparison
        factor = (MAX_GRADIENT_NORM / (norm + 1e-6)).clamp(max=1)[:, None]  # as torch's clip_grad_norm_
        for gradient in part:
            gradient.mul_(factor)


def episode_loss(model: MetaSeq2Seq, batch: EpisodeBatch) -> Tensor:
    """Run the network over an episode and return its loss, a scalar in nats per target symbol."""
    support_in, support_out, query_in, query_out = batch.support_in, batch.support_out, batch.query_in, batch.query_out
    support = support_in.symbols, support_in.lengths, support_out.symbols, support_out.lengths
    context = model.store_and_recall(*support, query_in.symbols, query_in.lengths)
    logits = model.decode(context, query_out.symbols, query_out.lengths)
    return masked_cross_entropy(logits, query_out.symbols, query_out.lengths)


def train_on_episode(model: MetaSeq2Seq, optimizer: torch.optim.Adam, batch: EpisodeBatch) -> Tensor:
    """Take one gradient step on an episode and return its loss, a detached scalar."""
    model.train()
    loss = episode_loss(model, batch)
    take_step(loss, lambda: gradients_of(model), optimizer)
    return loss.detach()


def gradients_of(model: MetaSeq2Seq) -> list[list[Tensor]]:
    """Give the gradients of the encoders and of the decoder, each as one row."""
    in_decoder = set(model.decoder.parameters())
    parts: list[list[Tensor]] = [[], []]
    for parameter in model.parameters():
        assert parameter.grad is not None, "every weight takes part in the loss"
        parts[parameter in in_decoder].append(parameter.grad.view(1, -1))
    return parts


class Learner:
    """One network and its Adam; `lockstep.LockStep` has the same methods for several."""

    def __init__(self, model: MetaSeq2Seq, lr: float) -> None:
        self._model, self._optimizer = model, make_optimizer(model.parameters(), lr)
        self._device = next(model.parameters()).device
        self.loss_sums = torch.zeros(1, dtype=torch.float64, device=self._device)  # since last set to zero

    def step(self, batches: Sequence[EpisodeBatch], lr: float) -> None:
        """Take a gradient step on the run's episode."""
        (batch,) = batches
        self._optimizer.param_groups[0]["lr"].fill_(lr)
        self.loss_sums += train_on_episode(self._model, self._optimizer, batch.to(self._device))

    def restart_adam(self) -> None:
        """Forget Adam's moments."""
        restart_adam(self._optimizer)

    def adam_states(self) -> list[AdamState]:
        """Give Adam's state, for saving."""
        state = self._optimizer.state
        return [{name: dict(state[weight]) for name, weight in self._model.named_parameters()}]

    def load_adam_states(self, saved: Sequence[AdamState]) -> None:
        """Resume with a state of Adam."""
        (own,) = saved
        for name, weight in self._model.named_parameters():
            self._optimizer.state[weight] = {
                key: tensor.to(weight.device, copy=True) for key, tensor in own[name].items()
            }
