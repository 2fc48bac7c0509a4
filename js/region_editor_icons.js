// Icons of the region editor: strokes on a 24 x 24 sheet.

export const PATHS = {
  draw: "M4 8V4h4M16 4h4v4M4 16v4h4M12 15v6M9 18h6M20 12h-1",
  undo: "M9 14 4 9l5-5M4 9h10a6 6 0 0 1 0 12h-3",
  redo: "m15 14 5-5-5-5M20 9H10a6 6 0 0 0 0 12h3",
  duplicate: "M9 9h11v11H9zM5 15H4V4h11v1",
  remove: "M4 7h16M10 11v6M14 11v6M6 7l1 13h10l1-13M9 7V4h6v3",
  backward: "m12 20-8-4 8-4 8 4zM8 4l4 4 4-4",
  forward: "m12 12-8-4 8-4 8 4zM8 20l4-4 4 4",
  lock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  snap: "M5 5v6a7 7 0 0 0 14 0V5h-4v6a3 3 0 0 1-6 0V5zM5 8h4M15 8h4",
  fullScreen: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5",
  leave: "M9 4v5H4M20 9h-5V4M15 20v-5h5M4 15h5v5",
  play: "M7 5v14l12-7z",
  stop: "M7 6h10v12H7z",
  follow: "M12 3v4M12 17v4M3 12h4M17 12h4M12 7a5 5 0 1 0 0 10a5 5 0 1 0 0-10",
  keyframe: "M12 4l8 8-8 8-8-8z",
  still: "M12 3v18M8 7l4-4 4 4M8 17l4 4 4-4M4 12h5M15 12h5",
};

/** An icon as markup. */
export function icon(name) {
  return `<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" `
    + `stroke-linejoin="round" aria-hidden="true"><path d="${PATHS[name]}"/></svg>`;
}
