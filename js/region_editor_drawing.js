// Draws the editor's canvas: background, ghosts, regions, handles. Knows the model, changes nothing.

import { HANDLES, handlePoint } from "./region_editor_boxes.js";
import { PATHS } from "./region_editor_icons.js";
import { frameOf, neighbours } from "./region_editor_regions.js";
import { boxAt } from "./region_layout.js";

const PAPER = "#16181d";
const GRID = "rgba(255, 255, 255, 0.05)";
const EDGE = "rgba(255, 255, 255, 0.28)";
const HINT = "rgba(255, 255, 255, 0.55)";
const FONT = "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', sans-serif";
const MARGIN = 8;

/** The frame's place [x, y, width, height] on a canvas of this size: as large as fits. */
export function frameRect(width, height, layout) {
  const scale = Math.max(0.001, Math.min((width - 2 * MARGIN) / layout.width, (height - 2 * MARGIN) / layout.height));
  const [across, down] = [layout.width * scale, layout.height * scale];
  return [(width - across) / 2, (height - down) / 2, across, down];
}

/** Draw all of it. `show`: {width, height, picture, band, marquee, hint, focused}, sizes in the context's units. */
export function drawEditor(context, model, show) {
  const rect = frameRect(show.width, show.height, model.layout);
  context.clearRect(0, 0, show.width, show.height);
  drawFrame(context, model, rect, show);
  context.save();
  context.beginPath();
  context.rect(...rect);
  context.clip();
  for (const index of model.selection) drawGhosts(context, model, index, rect);
  model.regions.forEach((_, index) => drawRegion(context, model, index, rect));
  context.restore();
  for (const index of model.movable) drawHandles(context, model, index, rect);
  if (show.band) drawBand(context, show, rect);
  if (show.hint && !model.regions.length && !show.band) drawHint(context, show.hint, rect);
}

function drawFrame(context, model, rect, { picture, focused }) {
  context.fillStyle = PAPER;
  context.fillRect(...rect);
  if (picture) context.drawImage(picture, ...rect);
  else if (model.grid) drawGrid(context, model.grid, rect);
  context.lineWidth = 1;
  context.strokeStyle = focused ? "#4fc3f7" : EDGE;
  context.strokeRect(rect[0] - 0.5, rect[1] - 0.5, rect[2] + 1, rect[3] + 1);
}

function drawGrid(context, [across, down], [left, top, width, height]) {
  // Cells closer than this would be a haze.
  if (across * width < 5 || down * height < 5) return;
  context.beginPath();
  for (let x = across; x < 1; x += across) {
    context.moveTo(left + x * width, top);
    context.lineTo(left + x * width, top + height);
  }
  for (let y = down; y < 1; y += down) {
    context.moveTo(left, top + y * height);
    context.lineTo(left + width, top + y * height);
  }
  context.lineWidth = 1;
  context.strokeStyle = GRID;
  context.stroke();
}

function drawRegion(context, model, index, rect) {
  const region = model.regions[index];
  const [x, y, width, height] = onCanvas(model.boxOf(index), rect);
  const chosen = model.selection.includes(index);
  context.globalAlpha = chosen ? 0.34 : 0.2;
  context.fillStyle = region.color;
  context.fillRect(x, y, width, height);
  context.globalAlpha = 1;
  context.lineWidth = chosen ? 2 : 1.25;
  context.strokeStyle = region.color;
  context.setLineDash(region.locked ? [5, 4] : []);
  context.strokeRect(x + 0.5, y + 0.5, Math.max(1, width - 1), Math.max(1, height - 1));
  context.setLineDash([]);
  drawLabel(context, region, [x, y, width, height]);
}

function drawLabel(context, region, [x, y, width, height]) {
  const size = 12;
  context.font = `600 ${size}px ${FONT}`;
  const sign = region.locked ? size + 2 : 0;
  const room = width - 14;
  const title = fitted(context, region.name || region.prompt, room - sign);
  if (!title || height < size + 8) return;
  const wide = context.measureText(title).width;
  context.fillStyle = region.color;
  context.beginPath();
  context.roundRect(x + 3, y + 3, wide + sign + 9, size + 6, 3);
  context.fill();
  context.fillStyle = "#10131a";
  context.textBaseline = "middle";
  context.fillText(title, x + 7.5 + sign, y + 6.5 + size / 2);
  if (sign) drawLock(context, x + 6, y + 5.5, size);
  if (!region.prompt || height < 2 * size + 22) return;
  context.font = `${size - 1}px ${FONT}`;
  context.shadowColor = "rgba(0, 0, 0, 0.9)";
  context.shadowBlur = 3;
  context.fillStyle = "#fff";
  context.fillText(fitted(context, region.prompt.replace(/\s+/g, " "), room), x + 6, y + size + 19);
  context.shadowBlur = 0;
}

function drawLock(context, x, y, size) {
  context.save();
  context.translate(x, y);
  context.scale(size / 24, size / 24);
  context.lineWidth = 2.5;
  context.strokeStyle = "#10131a";
  context.stroke(new Path2D(PATHS.lock));
  context.restore();
}

/** The text, or its beginning, as wide as there is room; empty if hardly a letter fits. */
function fitted(context, text, room) {
  if (context.measureText(text).width <= room) return text;
  for (let length = Math.min(text.length, Math.floor(room / 4)); length > 1; length -= 1) {
    const part = `${text.slice(0, length)}…`;
    if (context.measureText(part).width <= room) return part;
  }
  return "";
}

/** The boxes at the keyframes before and after, and the way between the centres. */
function drawGhosts(context, model, index, rect) {
  const region = model.regions[index];
  if (region.keyframes.length < 2) return;
  const ghosts = neighbours(region, model.frame, model.frames).filter(Boolean);
  context.strokeStyle = region.color;
  context.fillStyle = region.color;
  context.lineWidth = 1;
  context.globalAlpha = 0.65;
  context.setLineDash([3, 3]);
  for (const { box } of ghosts) context.strokeRect(...onCanvas(box, rect));
  context.globalAlpha = 0.5;
  context.beginPath();
  for (const { t } of region.keyframes) context.lineTo(...centre(onCanvas(boxAt(region, t), rect)));
  context.stroke();
  context.setLineDash([]);
  for (const { t, box } of ghosts) {
    const [x, y] = centre(onCanvas(box, rect));
    context.globalAlpha = 0.9;
    context.beginPath();
    context.arc(x, y, 2.5, 0, 7);
    context.fill();
    context.font = `10px ${FONT}`;
    context.textBaseline = "middle";
    context.fillText(String(frameOf(t, model.frames) + 1), x + 5, y);
  }
  context.globalAlpha = 1;
}

function drawHandles(context, model, index, rect) {
  context.lineWidth = 1.25;
  for (const handle of HANDLES) {
    const [x, y] = onCanvas([...handlePoint(model.boxOf(index), handle), 0, 0], rect);
    context.beginPath();
    context.roundRect(x - 3.5, y - 3.5, 7, 7, 1.5);
    context.fillStyle = "#fff";
    context.fill();
    context.strokeStyle = model.regions[index].color;
    context.stroke();
  }
}

function drawBand(context, { band, marquee }, rect) {
  const [x, y, width, height] = onCanvas(band, rect);
  context.fillStyle = marquee ? "rgba(255, 255, 255, 0.06)" : "rgba(79, 195, 247, 0.2)";
  context.fillRect(x, y, width, height);
  context.lineWidth = 1.25;
  context.setLineDash(marquee ? [4, 3] : []);
  context.strokeStyle = marquee ? "#fff" : "#4fc3f7";
  context.strokeRect(x, y, width, height);
  context.setLineDash([]);
}

function drawHint(context, hint, [x, y, width, height]) {
  context.font = `13px ${FONT}`;
  context.textBaseline = "middle";
  context.textAlign = "center";
  context.fillStyle = HINT;
  context.shadowColor = "rgba(0, 0, 0, 0.8)";
  context.shadowBlur = 4;
  context.fillText(fitted(context, hint, width - 16), x + width / 2, y + height / 2);
  context.shadowBlur = 0;
  context.textAlign = "start";
}

function onCanvas([x, y, width, height], [left, top, across, down]) {
  return [left + x * across, top + y * down, width * across, height * down];
}

function centre([x, y, width, height]) {
  return [x + width / 2, y + height / 2];
}
