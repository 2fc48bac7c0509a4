// Keys while the canvas has the focus. Returns whether a key meant something. No page.

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** `does`: what is not the model's own: {play, fullScreen, escape, follow}. */
export function pressKey(model, event, does) {
  const command = event.ctrlKey || event.metaKey;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const action = key in ARROWS ? arrow(model, event, ARROWS[key])
    : command ? withControl(model, event.shiftKey)[key] : plain(model, does)[key];
  if (!action) return false;
  action();
  return true;
}

/** One cell, or one pixel without snapping or with Shift; Alt changes the size. */
function arrow(model, event, [x, y]) {
  const { width, height } = model.layout;
  const [across, down] = model.snap && !event.shiftKey ? model.least : [1 / width, 1 / height];
  return () => model.nudge(x * across, y * down, event.altKey);
}

/** Copying without a selection, or pasting without regions that were copied, means nothing here: it is the graph's. */
function withControl(model, shift) {
  const some = model.selection.length > 0;
  return {
    z: () => (shift ? model.redo() : model.undo()),
    y: () => model.redo(),
    d: () => model.duplicate(),
    c: some && (() => model.copy()),
    x: some && (() => model.cut()),
    v: model.canPaste && (() => model.paste()),
    a: () => model.select(model.regions.keys()),
  };
}

function plain(model, does) {
  return {
    Delete: () => model.remove(),
    Backspace: () => model.remove(),
    Escape: does.escape,
    " ": does.play,
    f: does.fullScreen,
    t: does.follow,
    n: () => model.setDrawing(!model.drawing),
    s: () => model.setSnap(!model.snap),
    k: () => model.toggleKeyframe(),
    l: () => model.setLocked(!model.selection.every((index) => model.regions[index].locked)),
    "[": () => model.order(-1),
    "]": () => model.order(1),
    ",": () => model.setFrame(model.frame - 1),
    ".": () => model.setFrame(model.frame + 1),
    Home: () => model.setFrame(0),
    End: () => model.setFrame(model.frames - 1),
  };
}
