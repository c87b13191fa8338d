"""Changes of intensity with torch, a whole batch at once, on any device: the rules of ``intensity``, in its order.

Each change picks the channels that take part, changes them together with one parameter each, and puts them back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from autoseg.batches.augmentation.draws import Change
from autoseg.batches.augmentation.intensity import coarse_corners, gaussian_weights
from autoseg.batches.augmentation.tensor_spatial import smooth_tensor


def change_tensors(batch: Tensor, changes: Sequence[Change], *, masked: Sequence[int] = ()) -> None:
    """Copy channels, then apply noise, blur, brightness, contrast, low resolution, bias field and gamma to a batch.

    The noise is torch's, from the drawn seed on the batch's device: of the same deviation as that of
    ``change_intensity``, but other numbers. All else is equal to it but for rounding.

    Args:
        batch: (B,C,Z,Y,X) float32, contiguous, normalised; changed in place.
        changes: what was drawn, one per sample.
        masked: channels that were normalised inside the mask and are 0 outside; they stay so, as in prediction.
    """
    outside = (batch == 0).all(dim=1) if masked else None
    for sample, change in zip(batch, changes, strict=True):
        if change.sources:
            sample.copy_(sample[list(change.sources)])
        if change.noise_std > 0:
            generator = torch.Generator(batch.device).manual_seed(change.noise_seed)
            noise = torch.randn(sample.shape, generator=generator, device=batch.device)
            sample.add_(noise, alpha=change.noise_std)
    rows = batch.view(-1, *batch.shape[2:])
    blur_rows(rows, np.concatenate([change.blur for change in changes]))
    _change_rows(rows, [change.brightness for change in changes], _adjust_brightness)
    _change_rows(rows, [change.contrast for change in changes], _adjust_contrast)
    spared = np.repeat([change.plane_only for change in changes], batch.shape[1])
    _change_rows(rows, [change.low_resolution for change in changes], _simulate_low_resolution, spared)
    for sample, change in zip(batch, changes, strict=True):
        if change.bias is not None:
            for channel, points in zip(sample, change.bias, strict=True):
                channel.mul_(smooth_tensor(points, channel.shape, batch.device).exp())
    inverted = [change.inverted_gamma for change in changes]
    _change_rows(rows, inverted, lambda chosen, gamma: -_apply_gamma(-chosen, gamma))
    _change_rows(rows, [change.gamma for change in changes], _apply_gamma)
    if outside is not None:
        for index in masked:
            batch[:, index].masked_fill_(outside, 0)


def _change_rows(
    rows: Tensor, values: Sequence[np.ndarray], function: Callable[..., Tensor], *others: np.ndarray
) -> None:
    """Replace the rows whose value is not 1.

    Args:
        rows: (R,Z,Y,X) float32, changed in place.
        values: numbers of each sample's channels, R together.
        function: chosen rows, their values, and what else was given for them -> rows.
        others: (R,), what the function needs besides.
    """
    together = np.concatenate(values)
    chosen = np.flatnonzero(together != 1)
    if len(chosen):
        index = torch.from_numpy(chosen).to(rows.device)
        changed = function(rows.index_select(0, index), together[chosen], *(values[chosen] for values in others))
        rows.index_copy_(0, index, changed)


def _column(values: np.ndarray, rows: Tensor) -> Tensor:
    """One number per row, float32, on its device and ready to be multiplied."""
    return torch.from_numpy(values.astype(np.float32)).to(rows.device).view(-1, 1, 1, 1)


def blur_rows(rows: Tensor, sigmas: np.ndarray) -> None:
    """Gaussian blur, reflected at the borders.

    Args:
        rows: (R,Z,Y,X) float32, changed in place.
        sigmas: (R,3) voxels per axis, 0 for none; an axis of one voxel is left alone.
    """
    for axis, n in enumerate(rows.shape[1:]):
        chosen = np.flatnonzero(sigmas[:, axis] > 0)
        if n == 1 or not len(chosen):
            continue
        kernels = [gaussian_weights(sigma) for sigma in sigmas[chosen, axis]]
        radius = max(len(kernel) // 2 for kernel in kernels)
        weights = np.stack([np.pad(kernel, radius - len(kernel) // 2) for kernel in kernels])
        taps = torch.from_numpy(weights).to(rows.device)
        index = torch.from_numpy(chosen).to(rows.device)
        around = torch.from_numpy(_reflect(np.arange(-radius, n + radius), n)).to(rows.device)
        padded = rows.index_select(0, index).index_select(axis + 1, around)
        blurred = torch.zeros_like(padded.narrow(axis + 1, 0, n))
        for tap in range(2 * radius + 1):
            blurred.addcmul_(padded.narrow(axis + 1, tap, n), taps[:, tap].view(-1, 1, 1, 1))
        rows.index_copy_(0, index, blurred)


def _reflect(indices: np.ndarray, n: int) -> np.ndarray:
    """Indices beyond an end, mirrored back at the end voxel, as often as it takes; n > 1."""
    period = 2 * (n - 1)
    folded = np.abs(indices) % period
    return np.minimum(folded, period - folded)


def _adjust_brightness(rows: Tensor, factors: np.ndarray) -> Tensor:
    return rows * _column(factors, rows)


def _adjust_contrast(rows: Tensor, factors: np.ndarray) -> Tensor:
    """Contrast: distances from the mean times a factor, clipped to the previous range."""
    axes = (1, 2, 3)
    mean = rows.mean(axes, keepdim=True, dtype=torch.float64)
    shift = (mean * torch.from_numpy(1 - factors).to(rows.device).view(-1, 1, 1, 1)).float()
    return (rows * _column(factors, rows) + shift).clamp(rows.amin(axes, keepdim=True), rows.amax(axes, keepdim=True))


def _simulate_low_resolution(rows: Tensor, zooms: np.ndarray, spared: np.ndarray) -> Tensor:
    """Low resolution: nearest voxels of a coarser grid, brought back linearly; (R,) bool spares the first axis."""
    for axis, n in enumerate(rows.shape[1:]):
        corners = [
            coarse_corners(n, n if axis == 0 and flat else max(1, round(n * zoom)))
            for zoom, flat in zip(zooms, spared, strict=True)
        ]
        low, high, second = (torch.from_numpy(np.stack(part)).to(rows.device) for part in zip(*corners, strict=True))
        shape = [len(rows), *(n if k == axis else 1 for k in range(3))]
        first = rows.gather(axis + 1, low.view(shape).expand_as(rows))
        rows = first + second.view(shape) * (rows.gather(axis + 1, high.view(shape).expand_as(rows)) - first)
    return rows


def _apply_gamma(rows: Tensor, gammas: np.ndarray) -> Tensor:
    """Gamma on rows scaled to 0-1, then their own mean and standard deviation again; what is constant stays."""
    axes = (1, 2, 3)
    low = rows.amin(axes, keepdim=True).double()
    spread = rows.amax(axes, keepdim=True).double() - low
    unit = (rows - low.float()) * (1 / spread.clamp(min=1e-7)).float()
    bent = (unit.clamp(min=1e-30).log() * _column(gammas, rows)).exp()  # the logarithm needs more than 0
    mean, std = _measure(rows)
    bent_mean, bent_std = _measure(bent)
    factor = std / bent_std.clamp(min=1e-12)
    bent = bent * factor.float() + (mean - bent_mean * factor).float()
    return torch.where(spread < 1e-7, rows, bent)


def _measure(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(R,1,1,1) float64 mean and standard deviation of each row."""
    mean = rows.mean((1, 2, 3), keepdim=True, dtype=torch.float64)
    distance = rows - mean.float()
    # What rounding the mean to float32 leaves over is taken out again.
    rest = distance.mean((1, 2, 3), keepdim=True, dtype=torch.float64)
    variance = (distance * distance).mean((1, 2, 3), keepdim=True, dtype=torch.float64) - rest * rest
    return mean, variance.clamp(min=0).sqrt()
