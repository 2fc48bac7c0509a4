// Boxes [x, y, width, height] as fractions of the frame: moving, resizing, drawing, hitting. Pure.

/** Pixels of one latent cell: 8 of the VAE times 2 of the patch. */
export const CELL = 16;
export const HANDLES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];

/** Sides of one cell as fractions; edges snap to its multiples. */
export function cellOf({ width, height }) {
  return [Math.min(1, CELL / width), Math.min(1, CELL / height)];
}

/** A box moved by (dx, dy), as far as it stays inside the frame; with a grid, its corner snaps. */
export function moveBox([x, y, width, height], dx, dy, grid) {
  return tidy([
    moveSide(x, Math.min(width, 1), dx, grid?.[0]),
    moveSide(y, Math.min(height, 1), dy, grid?.[1]),
    Math.min(width, 1),
    Math.min(height, 1),
  ]);
}

function moveSide(start, length, by, cell) {
  if (!by) return clamp(start, 0, 1 - length);
  return clamp(snap(start + by, cell), 0, 1 - length);
}

/** A box with the edges of `handle` ("n", "se", ...) moved by (dx, dy); never smaller than `least`, never outside. */
export function resizeBox([x, y, width, height], handle, dx, dy, grid, least) {
  let [left, top, right, bottom] = [x, y, x + width, y + height];
  if (handle.includes("w")) left = clamp(snap(left + dx, grid?.[0]), 0, right - least[0]);
  if (handle.includes("e")) right = clamp(snap(right + dx, grid?.[0]), left + least[0], 1);
  if (handle.includes("n")) top = clamp(snap(top + dy, grid?.[1]), 0, bottom - least[1]);
  if (handle.includes("s")) bottom = clamp(snap(bottom + dy, grid?.[1]), top + least[1], 1);
  return tidy([left, top, right - left, bottom - top]);
}

/** The box between two points, at least `least` large. */
export function boxBetween([ax, ay], [bx, by], grid, least) {
  const [left, width] = span(ax, bx, grid?.[0], least[0]);
  const [top, height] = span(ay, by, grid?.[1], least[1]);
  return tidy([left, top, width, height]);
}

function span(a, b, cell, least) {
  const from = clamp(snap(Math.min(a, b), cell), 0, 1 - least);
  const to = clamp(snap(Math.max(a, b), cell), from + least, 1);
  return [from, to - from];
}

/** Whether a point lies in a box, or at most `margin` [x, y] outside. */
export function contains([x, y, width, height], [px, py], [mx, my] = [0, 0]) {
  return px >= x - mx && px <= x + width + mx && py >= y - my && py <= y + height + my;
}

/** Whether two boxes share a point. */
export function overlap(a, b) {
  return a[0] <= b[0] + b[2] && b[0] <= a[0] + a[2] && a[1] <= b[1] + b[3] && b[1] <= a[1] + a[3];
}

/** Where a handle is. */
export function handlePoint([x, y, width, height], handle) {
  const across = handle.includes("w") ? 0 : handle.includes("e") ? 1 : 0.5;
  const down = handle.includes("n") ? 0 : handle.includes("s") ? 1 : 0.5;
  return [x + across * width, y + down * height];
}

/** The handle of a box near a point, corners first; null if none is within `reach` [x, y]. */
export function handleAt(box, [px, py], [rx, ry]) {
  const near = HANDLES.filter((handle) => {
    const [x, y] = handlePoint(box, handle);
    return Math.abs(px - x) <= rx && Math.abs(py - y) <= ry;
  });
  return near.sort((a, b) => b.length - a.length)[0] ?? null;
}

function snap(value, cell) {
  return cell ? Math.round(value / cell) * cell : value;
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), Math.max(low, high));
}

/** Six decimals: far below a pixel, and the workflow stays readable. */
function tidy(box) {
  return box.map((number) => Math.round(number * 1e6) / 1e6);
}
