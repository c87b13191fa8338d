"""Interpolation of image and label, compiled and cached; it releases the interpreter's lock.

Along a row of the patch the position in the volume moves by a constant. Where all eight voxels around it exist, which
is nearly everywhere, indices and weights are found for a whole run of voxels, several at once, and then each channel is
read without bounds checks. Both paths add the same terms in the same order, so results do not depend on the path.

The loops take many arguments, because compiled code takes arrays and numbers, not records.
"""

from __future__ import annotations

import numpy as np
from numba import float32, float64, int16, int32, int64, njit, types, uint32, void

MIXED_LABELS = np.int16(-32768)  # no label has this value
TILE_ROWS = 16  # rows in both directions that are made together: they read the same voxels, still in the cache
RUN_LENGTH = 128  # most voxels of a row at once; a constant, so that the compiler sees that outputs do not overlap
FLAT_SLOPE = 1e-6  # along a row, in voxels for each: less makes no voxel of difference over any row


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
        if labels[i] != 0 and (i == 0 or labels[i] != labels[i - 1]):  # else it was counted just before
            total = 0.0
            for j in range(8):
                if labels[j] == labels[i]:
                    total += weights[j]
            if total > most or (total == most and labels[i] < best):
                best, most = labels[i], total
    return best


@njit(inline="always")
def _warp_label(label, in_z, in_y, in_x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """The label at any position, given the ``_ends`` on each axis."""
    z0, z1, wz0, wz1 = in_z
    y0, y1, wy0, wy1 = in_y
    x0, x1, wx0, wx1 = in_x
    inside = (wz0 + wz1) * (wy0 + wy1) * (wx0 + wx1)
    labels = (
        label[z0, y0, x0], label[z0, y0, x1], label[z0, y1, x0], label[z0, y1, x1],
        label[z1, y0, x0], label[z1, y0, x1], label[z1, y1, x0], label[z1, y1, x1],
    )  # fmt: skip
    agree = True
    for corner in range(1, 8):
        agree = agree and labels[corner] == labels[0]
    if agree and (labels[0] == 0 or inside > 0.5):
        return labels[0]
    w00, w01, w10, w11 = wz0 * wy0, wz0 * wy1, wz1 * wy0, wz1 * wy1
    weights = (w00 * wx0, w00 * wx1, w01 * wx0, w01 * wx1, w10 * wx0, w10 * wx1, w11 * wx0, w11 * wx1)
    return int16(_vote(labels, weights, 1.0 - inside))


@njit(inline="always")
def _warp_voxel(image, strides, in_z, in_y, in_x, values, i):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Fill voxel i of the (C,width) values from a (C,N) image, whose box lies at the strides, at any position."""
    offset, step_z, step_y = np.uintp(strides[0]), np.uintp(strides[1]), np.uintp(strides[2])
    z0, z1, wz0, wz1 = in_z
    y0, y1, wy0, wy1 = in_y
    x0, x1, wx0, wx1 = in_x
    f00, f01, f10, f11 = float32(wz0 * wy0), float32(wz0 * wy1), float32(wz1 * wy0), float32(wz1 * wy1)
    p, q = z0 * step_z + y0 * step_y + offset, z0 * step_z + y1 * step_y + offset
    r, s = z1 * step_z + y0 * step_y + offset, z1 * step_z + y1 * step_y + offset
    for channel in range(len(values)):
        first = f00 * image[channel, p + x0] + f01 * image[channel, q + x0]
        first += f10 * image[channel, r + x0] + f11 * image[channel, s + x0]
        second = f00 * image[channel, p + x1] + f01 * image[channel, q + x1]
        second += f10 * image[channel, r + x1] + f11 * image[channel, s + x1]
        values[channel, i] = float32(wx0) * first + float32(wx1) * second


@njit(void(int16[:, :, ::1], int16[:, :, ::1]), nogil=True, cache=True)
def mark_mixed(label, marked):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Fill with each voxel's label where the seven after it agree, MIXED_LABELS where they do not; (Z,Y,X) both."""
    depth, height, width = label.shape
    for k in range(depth):
        for j in range(height):
            k1, j1 = min(k + 1, depth - 1), min(j + 1, height - 1)
            a, b, c, d = label[k, j], label[k, j1], label[k1, j], label[k1, j1]
            row = marked[k, j]
            for i in range(width - 1):
                v = a[i]
                same = (b[i] == v) & (c[i] == v) & (d[i] == v)
                same &= (a[i + 1] == v) & (b[i + 1] == v) & (c[i + 1] == v) & (d[i + 1] == v)
                row[i] = v if same else MIXED_LABELS
            i = width - 1
            row[i] = a[i] if (b[i] == a[i]) & (c[i] == a[i]) & (d[i] == a[i]) else MIXED_LABELS


@njit(inline="always")
def _lies_within(position, slope, length):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Whether there are two voxels around a position, or it lies on one as its whole row does."""
    if slope == 0.0 and position == np.floor(position):
        return position >= 0.0 and position <= length - 1
    return position >= 0.0 and position < length - 1


@njit
def _all_lie_within(rows, slopes, along, shape):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return (
        _lies_within(rows[0, 0] + slopes[0] * along + rows[0, 1], slopes[0], shape[0])
        and _lies_within(rows[1, 0] + slopes[1] * along + rows[1, 1], slopes[1], shape[1])
        and _lies_within(rows[2, 0] + slopes[2] * along + rows[2, 1], slopes[2], shape[2])
    )


@njit
def _bound(rows, slopes, low, shape, beyond, width):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """A part of a row, from first to one before last, outside of which some axis is below low or above its end."""
    first, last = 0.0, float(width)
    for axis in range(3):
        slope, high = slopes[axis], shape[axis] - 1 + beyond
        begin = rows[axis, 0] + rows[axis, 1] - slope * ((width - 1) / 2)
        if abs(slope) < FLAT_SLOPE:
            if max(begin, begin + slope * width) < low - 1 or min(begin, begin + slope * width) > high + 1:
                return 0, 0
            continue
        enter, leave = (low - begin) / slope, (high - begin) / slope
        first, last = max(first, min(enter, leave) - 1), min(last, max(enter, leave) + 2)
    return (int64(first), int64(last)) if first < last else (0, 0)


@njit
def _find_touched(rows, slopes, shape, width):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Part of a row that contains all voxels around a position; it may be a little long."""
    return _bound(rows, slopes, -1.0, shape, 1.0, width)


@njit
def _find_inside(rows, slopes, shape, width):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """The first and one past the last voxel of a row that have all eight around them, and so have all between them."""
    first, last = _bound(rows, slopes, 0.0, shape, 0.0, width)
    while first < last and not _all_lie_within(rows, slopes, first - (width - 1) / 2, shape):
        first += 1
    while last > first and not _all_lie_within(rows, slopes, last - 1 - (width - 1) / 2, shape):
        last -= 1
    return first, last


@njit
def _find_weights(rows, slopes, strides, shape, begin, count, places, weights):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Fill, for a run of voxels that lie within, the index in image and in label and the weights of its corners.

    Args: begin is the run's first voxel, counted from the middle of the row; places is (2*RUN_LENGTH,) and weights
    (6*RUN_LENGTH,).
    """
    offset, step_z, step_y = uint32(strides[0]), uint32(strides[1]), uint32(strides[2])
    height, width = uint32(shape[1]), uint32(shape[2])
    row_z, row_y, row_x = rows[0, 0], rows[1, 0], rows[2, 0]
    centre_z, centre_y, centre_x = rows[0, 1], rows[1, 1], rows[2, 1]
    slope_z, slope_y, slope_x = slopes[0], slopes[1], slopes[2]
    for i in range(count):
        along = float64(int32(i)) + begin
        z, y, x = (
            row_z + slope_z * along + centre_z,
            row_y + slope_y * along + centre_y,
            row_x + slope_x * along + centre_x,
        )
        k, j, n = int32(z), int32(y), int32(x)
        z1, y1, x1 = z - k, y - j, x - n
        z0, y0, x0 = 1.0 - z1, 1.0 - y1, 1.0 - x1
        places[i] = uint32(uint32(k) * step_z) + uint32(uint32(j) * step_y) + uint32(n) + offset
        places[RUN_LENGTH + i] = uint32((uint32(uint32(k) * height) + uint32(j)) * width) + uint32(n)
        weights[i], weights[RUN_LENGTH + i] = z0 * y0, z0 * y1
        weights[2 * RUN_LENGTH + i], weights[3 * RUN_LENGTH + i] = z1 * y0, z1 * y1
        weights[4 * RUN_LENGTH + i], weights[5 * RUN_LENGTH + i] = x0, x1


@njit
def _find_steps(rows, slopes, strides):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Index steps to the next slice, row and voxel; 0 where a whole row lies on one, as there may be no next."""
    dz, dy, dx = np.uint32(strides[1]), np.uint32(strides[2]), np.uint32(1)
    if slopes[0] == 0.0 and rows[0, 0] + rows[0, 1] == np.floor(rows[0, 0] + rows[0, 1]):
        dz = np.uint32(0)
    if slopes[1] == 0.0 and rows[1, 0] + rows[1, 1] == np.floor(rows[1, 0] + rows[1, 1]):
        dy = np.uint32(0)
    if slopes[2] == 0.0 and rows[2, 0] + rows[2, 1] == np.floor(rows[2, 0] + rows[2, 1]):
        dx = np.uint32(0)
    return dz, dy, dx


@njit
def _read_run(source, steps, count, places, weights, values):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Fill one channel's (count,) values where a run lies within."""
    dz, dy, dx = steps
    for i in range(count):
        p = places[i]
        q, r, s = p + dy, p + dz, p + dz + dy
        near = weights[i] * source[p] + weights[RUN_LENGTH + i] * source[q]
        near += weights[2 * RUN_LENGTH + i] * source[r] + weights[3 * RUN_LENGTH + i] * source[s]
        far = weights[i] * source[p + dx] + weights[RUN_LENGTH + i] * source[q + dx]
        far += weights[2 * RUN_LENGTH + i] * source[r + dx] + weights[3 * RUN_LENGTH + i] * source[s + dx]
        values[i] = weights[4 * RUN_LENGTH + i] * near + weights[5 * RUN_LENGTH + i] * far


@njit
def _read_labels(label, marked, rows, slopes, begin, count, places, labels):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Fill the (count,) labels where a run lies within: at once where the corners agree, else by their weights."""
    for i in range(count):
        labels[i] = marked[places[RUN_LENGTH + i]]
    for i in range(count):
        if labels[i] == MIXED_LABELS:
            z = rows[0, 0] + slopes[0] * (begin + i) + rows[0, 1]
            y = rows[1, 0] + slopes[1] * (begin + i) + rows[1, 1]
            x = rows[2, 0] + slopes[2] * (begin + i) + rows[2, 1]
            labels[i] = _warp_label(label, _ends(z, label.shape[0]), _ends(y, label.shape[1]), _ends(x, label.shape[2]))


@njit
def _warp_rest(image, strides, label, matrix, centre, moved, offsets, begin, end, patch, target):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Fill the voxels begin..end of a row one by one, wherever they lie.

    Args: moved is the row's (3,width) displacement, or (3,0); patch is (C,width) and target (width,).
    """
    shape, width = label.shape, len(target)
    for i in range(begin, end):
        a, b, c = offsets[0], offsets[1], i - (width - 1) / 2
        if moved.shape[1] > 0:
            a, b, c = a + moved[0, i], b + moved[1, i], c + moved[2, i]
        z = matrix[0, 0] * a + matrix[0, 1] * b + matrix[0, 2] * c + centre[0]
        y = matrix[1, 0] * a + matrix[1, 1] * b + matrix[1, 2] * c + centre[1]
        x = matrix[2, 0] * a + matrix[2, 1] * b + matrix[2, 2] * c + centre[2]
        if min(z, y, x) <= -1.0 or z >= shape[0] or y >= shape[1] or x >= shape[2]:
            target[i] = 0
            patch[:, i] = float32(0)
        else:
            in_z, in_y, in_x = _ends(z, shape[0]), _ends(y, shape[1]), _ends(x, shape[2])
            target[i] = _warp_label(label, in_z, in_y, in_x)
            _warp_voxel(image, strides, in_z, in_y, in_x, patch, i)


@njit(
    void(
        types.Array(float32, 2, "C", readonly=True),
        types.UniTuple(int64, 3),
        int16[:, :, ::1],
        int16[:, :, ::1],
        float64[:, ::1],
        float64[::1],
        float32[:, :, :, ::1],
        float32[:, :, :, ::1],
        int16[:, :, ::1],
    ),
    nogil=True,
    cache=True,
)
def warp_patch(image, strides, label, marked, matrix, centre, displacement, patch, target):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Fill a patch and its target: voxel o comes from ``matrix @ (o - middle + displacement) + centre`` of the box.

    Args:
        image: (C,N) float32, flat volumes.
        strides: index of the box's first voxel in a flat volume, then of its next slice and row.
        label: (Z,Y,X) int16, the box.
        marked: the same with MIXED_LABELS, as ``mark_mixed`` fills it.
        matrix: (3,3) float64.
        centre: (3,) float64, middle of the patch in the box, voxels.
        displacement: (3,*patch) float32 voxels, or (3,0,0,0) for none.
        patch: (C,*patch) float32, filled.
        target: (*patch) int16, filled.
    """
    depth, height, width = target.shape
    across = (height + TILE_ROWS - 1) // TILE_ROWS
    displaced = displacement.shape[1] > 0
    still = np.empty((3, 0), np.float32)
    rows, slopes = np.empty((3, 2)), matrix[:, 2].copy()
    rows[:, 1] = centre
    places, weights = np.empty(2 * RUN_LENGTH, np.uint32), np.empty(6 * RUN_LENGTH, np.float32)
    flat = marked.reshape(-1)
    for tile in range((depth + TILE_ROWS - 1) // TILE_ROWS * across):
        top, left = tile // across * TILE_ROWS, tile % across * TILE_ROWS
        for k in range(top, min(top + TILE_ROWS, depth)):
            for j in range(left, min(left + TILE_ROWS, height)):
                offsets = (k - (depth - 1) / 2, j - (height - 1) / 2)
                for axis in range(3):
                    rows[axis, 0] = matrix[axis, 0] * offsets[0] + matrix[axis, 1] * offsets[1]
                moved = displacement[:, k, j] if displaced else still
                voxels, labels = patch[:, k, j], target[k, j]
                low, first, last, high = 0, 0, 0, width
                if not displaced:
                    low, high = _find_touched(rows, slopes, label.shape, width)
                    voxels[:, :low], voxels[:, high:], labels[:low], labels[high:] = 0, 0, 0, 0
                    first, last = _find_inside(rows, slopes, label.shape, width)
                    first, last = (first, last) if first < last else (low, low)
                _warp_rest(image, strides, label, matrix, centre, moved, offsets, low, first, voxels, labels)
                _warp_rest(image, strides, label, matrix, centre, moved, offsets, last, high, voxels, labels)
                steps = _find_steps(rows, slopes, strides)
                for run in range(first, last, RUN_LENGTH):
                    begin, count = run - (width - 1) / 2, min(RUN_LENGTH, last - run)
                    _find_weights(rows, slopes, strides, label.shape, begin, count, places, weights)
                    _read_labels(label, flat, rows, slopes, begin, count, places, labels[run:])
                    for channel in range(len(image)):
                        _read_run(image[channel], steps, count, places, weights, voxels[channel, run:])
