"""LSTM layers side by side: what D layers of `torch.nn.LSTM` compute, each with its own weights, in shared products.

A recurrent step is one batched product and one cell for all of them. Every sequence has T steps, padded ones computed
like the others; a layer that is to run backwards is given its sequences reversed.

Shapes: D layers, N sequences of T steps, K inputs, m units. Gates: i, f, g, o.
Source: Hochreiter & Schmidhuber 1997, in the form of torch.nn.LSTM.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def stacked_layer(x: Tensor, w_input: Tensor, w_hidden: Tensor, bias: Tensor, start: Tensor) -> Tensor:
    """Run D layers side by side.

    Args:
        x: (D, N, T, K) inputs.
        w_input, w_hidden, bias: (D, 4m, K), (D, 4m, m), (D, 4m).
        start: (D, N, m) the state before the first step, hidden and cell state alike.
    Returns:
        The hidden state at each step, (D, N, T, m).
    """
    run_layer: Callable[..., Tensor] = _StackedLayer.apply
    return run_layer(x, w_input, w_hidden, bias, start)


def lstm_cell(given: Tensor, recurrent: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Take a step of an LSTM.

    Args:
        given, recurrent: (N, 4m) what input and hidden state add to the gates i, f, g, o.
        c: (N, m) the cell state before.
    Returns:
        Hidden and cell state after, (N, m) each, and the gates after their squashing, (N, 4m).
    """
    if given.is_cuda:
        fused: tuple[Tensor, Tensor, Tensor] = torch.ops.aten._thnn_fused_lstm_cell(given, recurrent, c)
        return fused
    i, f, g, o = (given + recurrent).chunk(4, dim=1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    c = f * c + i * g
    return o * c.tanh(), c, torch.cat((i, f, g, o), dim=1)


def lstm_cell_backward(grad_h: Tensor, grad_c: Tensor, before: Tensor, c: Tensor, gates: Tensor) -> tuple[Tensor, ...]:
    """Go back through a step: gradients of the gates before their squashing, (N, 4m), and of the cell state before.

    Args:
        grad_h, grad_c: (N, m) gradients of the states after the step.
        before, c: (N, m) the cell state before and after the step.
        gates: (N, 4m) as `lstm_cell` returned them.
    """
    if grad_h.is_cuda:
        back = torch.ops.aten._thnn_fused_lstm_cell_backward_impl(grad_h, grad_c, before, c, gates, False)
        return back[0], back[1]
    i, f, g, o = gates.chunk(4, dim=1)
    tanh = c.tanh()
    grad_c = grad_c + grad_h * o * (1 - tanh * tanh)
    slopes = (
        grad_c * g * i * (1 - i),
        grad_c * before * f * (1 - f),
        grad_c * i * (1 - g * g),
        grad_h * tanh * o * (1 - o),
    )
    return torch.cat(slopes, dim=1), grad_c * f


class _StackedLayer(torch.autograd.Function):
    """`stacked_layer` with its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w_input: Tensor, w_hidden: Tensor, bias: Tensor, start: Tensor) -> Tensor:
        given = torch.baddbmm(bias[:, None], x.flatten(1, 2), w_input.mT).unflatten(1, x.shape[1:3])
        given = given.permute(2, 0, 1, 3).contiguous().flatten(1, 2)  # (T, D * N, 4m)
        hidden, cells, gates = [start], [start.flatten(0, 1)], []
        for now in given.unbind():
            recurrent = torch.bmm(hidden[-1], w_hidden.mT).flatten(0, 1)
            h, c, squashed = lstm_cell(now, recurrent, cells[-1])
            hidden.append(h.view_as(start))
            cells.append(c)
            gates.append(squashed)
        ctx.save_for_backward(x, w_input, w_hidden, torch.stack(hidden[:-1], dim=2), *cells, *gates)
        return torch.stack(hidden[1:], dim=2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        x, w_input, w_hidden, hidden_before, *rest = ctx.saved_tensors
        n_steps = x.shape[2]
        cells, gates = rest[: n_steps + 1], rest[n_steps + 1 :]
        grad_output = grad_output.permute(2, 0, 1, 3).contiguous()  # (T, D, N, m)
        grad_h, grad_c, grads = grad_output[-1], torch.zeros_like(cells[0]), []
        for t in reversed(range(n_steps)):
            grad, grad_c = lstm_cell_backward(grad_h.flatten(0, 1), grad_c, cells[t], cells[t + 1], gates[t])
            grads.append(grad.unflatten(0, grad_h.shape[:2]))
            if t > 0:
                grad_h = torch.baddbmm(grad_output[t - 1], grads[-1], w_hidden)
        grad_gates = torch.stack(grads[::-1], dim=2).flatten(1, 2)  # (D, N * T, 4m)
        grad_x = torch.bmm(grad_gates, w_input).view_as(x) if ctx.needs_input_grad[0] else None
        grad_start = torch.baddbmm(grad_c.view_as(grad_h), grads[-1], w_hidden) if ctx.needs_input_grad[4] else None
        turned = grad_gates.mT
        grad_w_input, grad_w_hidden = (torch.bmm(turned, rows.flatten(1, 2)) for rows in (x, hidden_before))
        return grad_x, grad_w_input, grad_w_hidden, grad_gates.sum(1), grad_start
