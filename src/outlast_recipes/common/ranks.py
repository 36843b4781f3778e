"""Several ranks of torch.distributed that train as one process."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel


def several_ranks() -> bool:
    """Whether this process trains together with others, under torchrun."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def across_ranks(network: nn.Module, device: torch.device, *, unused: bool = False) -> nn.Module:
    """The network as one of several ranks calls it: the same losses and gradients as one rank with all samples would
    have.

    Norms take their statistics from the samples of all ranks. With one rank it is the network itself.

    Args:
        network: on the device.
        device: of this rank.
        unused: whether there are batches whose loss does not depend on all parameters.
    """
    if not several_ranks():
        return network
    together = nn.SyncBatchNorm.convert_sync_batchnorm(network) if device.type == "cuda" else _together(network)
    # With three ranks or more torch's first step adds in another order than later ones, unless it looks for unused
    # parameters.
    look = unused or distributed.get_world_size() > 2
    return DistributedDataParallel(together, find_unused_parameters=look)


def mean_of_ranks(value: Tensor) -> Tensor:
    """A number averaged over ranks; all call it."""
    if not several_ranks():
        return value
    total = value.detach().clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def sum_of_ranks(value: Tensor) -> Tensor:
    """Numbers added over ranks; all call it."""
    if several_ranks():
        distributed.all_reduce(value)
    return value


class _NormOfAllRanks(_BatchNorm):
    """Batch norm over the samples of all ranks on any device; torch's own knows GPUs only."""

    def _check_input_dim(self, x: Tensor) -> None:
        """Any number of dimensions."""

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and several_ranks()):
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
            )
        from torch.distributed.nn.functional import all_reduce

        narrow, x = x.dtype, x.float()  # statistics in half precision would be no statistics
        dims = [0, *range(2, x.dim())]
        form = [1, -1, *[1] * (x.dim() - 2)]
        count = all_reduce(x.new_tensor(float(x.numel() // x.shape[1])))
        mean = all_reduce(x.sum(dims)) / count
        centred = x - mean.view(form)
        variance = all_reduce(centred.square().sum(dims)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        normal = centred * (variance + self.eps).rsqrt().view(form)
        return (normal * self.weight.view(form) + self.bias.view(form)).to(narrow)


def _together(module: nn.Module) -> nn.Module:
    """The module with its batch norms replaced, in place."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            norm = _NormOfAllRanks(child.num_features, child.eps, child.momentum)
            norm.weight, norm.bias = child.weight, child.bias
            norm.running_mean, norm.running_var = child.running_mean, child.running_var
            norm.num_batches_tracked = child.num_batches_tracked
            setattr(module, name, norm)
        else:
            _together(child)
    return module
