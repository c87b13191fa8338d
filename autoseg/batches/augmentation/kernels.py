"""The inner loops, compiled once and cached; they release the interpreter's lock, so threads run side by side."""

from __future__ import annotations

import numpy as np
from numba import boolean, float32, float64, int16, int32, int64, njit, types, uint16, uint32, void

# Any strides and read-only memory: a view of a stored volume goes in as it is.
_IMAGE = types.Array(float32, 4, "A", readonly=True)
_LABEL = types.Array(int16, 3, "A", readonly=True)


@njit(inline="always")
def _ends(position, length):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """The two voxels around a position with their weights; weight 0 and a valid index outside the axis."""
    low = int(np.floor(position))
    second = position - low
    first = 1.0 - second
    high = low + 1
    if low < 0 or low >= length:
        first = 0.0
        low = min(max(low, 0), length - 1)
    if high < 0 or high >= length:
        second = 0.0
        high = min(max(high, 0), length - 1)
    return np.uintp(low), np.uintp(high), first, second  # unsigned: no test for a negative index


@njit
def _vote(labels, weights, rest):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """The label with the largest weight, the smaller one when two are equal; ``rest`` votes for 0."""
    best, most = 0, rest
    for i in range(8):
        if labels[i] == 0:
            most += weights[i]
    for i in range(8):
        if labels[i] != 0:
            total = 0.0
            for j in range(8):
                if labels[j] == labels[i]:
                    total += weights[j]
            if total > most or (total == most and labels[i] < best):
                best, most = labels[i], total
    return best


@njit(
    void(_IMAGE, _LABEL, float64[:, ::1], float64[::1], float32[:, :, :, ::1], float32[:, :, :, ::1], int16[:, :, ::1]),
    nogil=True,
    cache=True,
)
def warp_patch(image, label, matrix, centre, displacement, patch, target):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Fill a patch and its target: voxel o comes from ``matrix @ (o - middle + displacement) + centre``.

    Args:
        image: (C,Z,Y,X) float32.
        label: (Z,Y,X) int16.
        matrix: (3,3) float64.
        centre: (3,) float64, where the middle of the patch lies in the volume, voxels.
        displacement: (3,*patch) float32 voxels, or (3,0,0,0) for none.
        patch: (C,*patch) float32, filled.
        target: (*patch) int16, filled.
    """
    channels, nz, ny, nx = image.shape
    depth, height, width = target.shape
    displaced = displacement.shape[1] > 0
    for k in range(depth):
        for j in range(height):
            for i in range(width):
                a, b, c = k - (depth - 1) / 2, j - (height - 1) / 2, i - (width - 1) / 2
                if displaced:
                    a, b, c = a + displacement[0, k, j, i], b + displacement[1, k, j, i], c + displacement[2, k, j, i]
                z0, z1, wz0, wz1 = _ends(matrix[0, 0] * a + matrix[0, 1] * b + matrix[0, 2] * c + centre[0], nz)
                y0, y1, wy0, wy1 = _ends(matrix[1, 0] * a + matrix[1, 1] * b + matrix[1, 2] * c + centre[1], ny)
                x0, x1, wx0, wx1 = _ends(matrix[2, 0] * a + matrix[2, 1] * b + matrix[2, 2] * c + centre[2], nx)
                inside = (wz0 + wz1) * (wy0 + wy1) * (wx0 + wx1)
                if inside == 0.0:
                    target[k, j, i] = 0
                    for channel in range(channels):
                        patch[channel, k, j, i] = 0.0
                    continue
                w00, w01, w10, w11 = wz0 * wy0, wz0 * wy1, wz1 * wy0, wz1 * wy1
                f00, f01, f10, f11 = float32(w00), float32(w01), float32(w10), float32(w11)
                fx0, fx1 = float32(wx0), float32(wx1)
                for channel in range(channels):
                    first = f00 * image[channel, z0, y0, x0] + f01 * image[channel, z0, y1, x0]
                    first += f10 * image[channel, z1, y0, x0] + f11 * image[channel, z1, y1, x0]
                    second = f00 * image[channel, z0, y0, x1] + f01 * image[channel, z0, y1, x1]
                    second += f10 * image[channel, z1, y0, x1] + f11 * image[channel, z1, y1, x1]
                    patch[channel, k, j, i] = fx0 * first + fx1 * second
                labels = (
                    label[z0, y0, x0], label[z0, y0, x1], label[z0, y1, x0], label[z0, y1, x1],
                    label[z1, y0, x0], label[z1, y0, x1], label[z1, y1, x0], label[z1, y1, x1],
                )  # fmt: skip
                agree = True
                for corner in range(1, 8):
                    agree = agree and labels[corner] == labels[0]
                if agree and (labels[0] == 0 or inside > 0.5):
                    target[k, j, i] = labels[0]
                else:
                    weights = (
                        w00 * wx0, w00 * wx1, w01 * wx0, w01 * wx1,
                        w10 * wx0, w10 * wx1, w11 * wx0, w11 * wx1,
                    )  # fmt: skip
                    target[k, j, i] = _vote(labels, weights, 1.0 - inside)


@njit(inline="always")
def _reflect(index, length):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """An index beyond an end, mirrored back at the end voxel."""
    while index < 0 or index >= length:
        index = -index if index < 0 else 2 * (length - 1) - index
    return index


@njit(void(float32[:, :, ::1], float32[::1], float32[:, :, ::1]), nogil=True, cache=True)
def blur_axis(source, weights, blurred):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Weighted sum along the middle axis: (P,N,Q) float32 source -> blurred of the same shape; N > 1."""
    before, length, after = source.shape
    radius = len(weights) // 2
    for p in range(before):
        for n in range(length):
            for q in range(after):
                blurred[p, n, q] = 0.0
            for tap in range(len(weights)):
                m = _reflect(n + tap - radius, length)
                weight = weights[tap]
                for q in range(after):
                    blurred[p, n, q] += weight * source[p, m, q]


@njit(void(float32[:, ::1], float32[::1], float32[:, ::1]), nogil=True, cache=True)
def blur_rows(source, weights, blurred):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Weighted sum along the rows: (P,N) float32 source -> blurred of the same shape; N > 1."""
    rows, length = source.shape
    radius = len(weights) // 2
    padded = np.empty(length + 2 * radius, np.float32)
    for row in range(rows):
        for n in range(radius):
            padded[n] = source[row, _reflect(n - radius, length)]
            padded[length + radius + n] = source[row, _reflect(length + n, length)]
        for n in range(length):
            padded[radius + n] = source[row, n]
            blurred[row, n] = 0.0
        for tap in range(len(weights)):
            weight = weights[tap]
            for n in range(length):
                blurred[row, n] += weight * padded[n + tap]


@njit(
    void(
        float32[:, :, ::1],
        int64[::1], int64[::1], float32[::1],
        int64[::1], int64[::1], float32[::1],
        int64[::1], int64[::1], float32[::1],
        float32[:, :, ::1],
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def blend_corners(source, z0, z1, wz, y0, y1, wy, x0, x1, wx, blended):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Each voxel of a (Z,Y,X) float32 array from two source indices and the second's weight per axis."""
    depth, height, width = blended.shape
    for k in range(depth):
        for j in range(height):
            w00, w01 = (1 - wz[k]) * (1 - wy[j]), (1 - wz[k]) * wy[j]
            w10, w11 = wz[k] * (1 - wy[j]), wz[k] * wy[j]
            a, b, c, d = source[z0[k], y0[j]], source[z0[k], y1[j]], source[z1[k], y0[j]], source[z1[k], y1[j]]
            for i in range(width):
                p, q = x0[i], x1[i]
                first = w00 * a[p] + w01 * b[p] + w10 * c[p] + w11 * d[p]
                second = w00 * a[q] + w01 * b[q] + w10 * c[q] + w11 * d[q]
                blended[k, j, i] = first + wx[i] * (second - first)


@njit(void(types.Array(uint16, 4, "A", readonly=True), types.Array(float32, 4, "A")), nogil=True, cache=True)
def widen_half(half, wide):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Half precision, given as its (C,Z,Y,X) bits, to float32 of the same shape; exact, for finite numbers.

    The bits are moved to where float32 has them; a multiplication sets the exponent right, also of subnormal numbers.
    Row by row through contiguous memory, which the compiler turns into vector instructions whatever the strides are.
    """
    channels, depth, height, width = half.shape
    row = np.empty(width, np.uint16)
    bits = np.empty(width, np.uint32)
    floats = bits.view(np.float32)
    scale = np.float32(2.0**112)
    for channel in range(channels):
        for k in range(depth):
            for j in range(height):
                for i in range(width):
                    row[i] = half[channel, k, j, i]
                for i in range(width):
                    value = uint32(row[i])
                    bits[i] = ((value & uint32(0x8000)) << uint32(16)) | ((value & uint32(0x7FFF)) << uint32(13))
                for i in range(width):
                    wide[channel, k, j, i] = floats[i] * scale


@njit(types.UniTuple(float64, 4)(float32[::1]), nogil=True, cache=True)
def measure(values):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Mean, standard deviation, smallest and largest of (N,) float32, in one pass."""
    origin = values[0]  # sums of distances from one value lose no digits to a large mean
    total, squares, low, high = 0.0, 0.0, values[0], values[0]
    for value in values:
        distance = float64(value) - float64(origin)
        total += distance
        squares += distance * distance
        low = min(low, value)
        high = max(high, value)
    mean = total / len(values)
    return origin + mean, np.sqrt(max(squares / len(values) - mean * mean, 0.0)), low, high


@njit(inline="always")
def _square_rows(mask, radius, squared):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Fill the squared distance to the mask along the rows, no further than one beyond the radius."""
    depth, height, width = mask.shape
    for k in range(depth):
        for j in range(height):
            steps = radius + 1
            for i in range(width):
                steps = 0 if mask[k, j, i] else min(steps + 1, radius + 1)
                squared[k, j, i] = steps
            steps = radius + 1
            for i in range(width - 1, -1, -1):
                steps = 0 if mask[k, j, i] else min(steps + 1, radius + 1)
                nearest = min(steps, squared[k, j, i])
                squared[k, j, i] = nearest * nearest


@njit(void(boolean[:, :, ::1], int64, boolean[:, :, ::1]), nogil=True, cache=True)
def spread_ball(mask, radius, spread):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Fill where the mask is within a radius: (Z,Y,X) bool mask -> spread of the same shape.

    Squared distances are exact and found axis by axis, no further than the radius.
    """
    depth, height, width = mask.shape
    along_x = np.empty((depth, height, width), np.int32)
    _square_rows(mask, radius, along_x)
    in_plane = along_x.copy()
    for k in range(depth):
        for j in range(height):
            for other in range(max(j - radius, 0), min(j + radius + 1, height)):
                apart = int32((other - j) * (other - j))
                for i in range(width):
                    in_plane[k, j, i] = min(in_plane[k, j, i], along_x[k, other, i] + apart)
    limit = int32(radius * radius)
    for k in range(depth):
        for j in range(height):
            for i in range(width):
                spread[k, j, i] = in_plane[k, j, i] <= limit
            for other in range(max(k - radius, 0), min(k + radius + 1, depth)):
                rest = limit - int32((other - k) * (other - k))
                for i in range(width):
                    spread[k, j, i] = spread[k, j, i] | (in_plane[other, j, i] <= rest)
