// The region editor's looks: ComfyUI's colours, one style element for all editors of the page.

const ID = "ccvd-regions-style";
const CSS = `
.ccvd-regions { box-sizing: border-box; min-height: 0; height: 100%; width: 100%; }
.ccvd-regions-panel {
  display: flex; flex-direction: column; gap: 4px; box-sizing: border-box; height: 100%; min-height: 0; padding: 4px;
  font: 12px/1.3 system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; color: var(--input-text, #ddd);
  background: var(--comfy-menu-secondary-bg, #1f2128); border-radius: 6px; user-select: none;
}
.ccvd-regions-panel *, .ccvd-regions-panel *::before { box-sizing: border-box; }
.ccvd-regions-row { display: flex; align-items: center; gap: 3px; flex: none; min-width: 0; }
.ccvd-regions-row .gap { width: 1px; height: 16px; margin: 0 3px; background: var(--border-color, #4e4e4e); }
.ccvd-regions-row .space { flex: 1; }
.ccvd-regions-panel button.icon {
  display: grid; place-items: center; width: 24px; height: 24px; padding: 0; border: 0; border-radius: 4px;
  background: none; color: inherit; cursor: pointer; flex: none;
}
.ccvd-regions-panel button.icon:hover:not(:disabled) { background: var(--comfy-input-bg, #33363f); }
.ccvd-regions-panel button.icon:disabled { opacity: 0.3; cursor: default; }
.ccvd-regions-panel button.icon[aria-pressed="true"] { color: #4fc3f7; background: rgba(79, 195, 247, 0.16); }
.ccvd-regions-panel button.icon svg { width: 16px; height: 16px; pointer-events: none; }
.ccvd-regions-panel :is(button, input, select, textarea):focus-visible { outline: 1px solid #4fc3f7; outline-offset: -1px; }
.ccvd-regions-stage { position: relative; flex: 1 1 0; min-height: 90px; min-width: 0; }
.ccvd-regions-stage canvas { position: absolute; inset: 0; width: 100%; height: 100%; touch-action: none; }
.ccvd-regions-keys {
  position: absolute; left: 50%; top: 50%; width: 1px; height: 1px; padding: 0; border: 0; opacity: 0; pointer-events: none;
}
.ccvd-regions-refused {
  position: absolute; inset: auto 8px 8px; padding: 6px 10px; border-radius: 6px; background: #5a4310; border: 1px solid #e0b04a;
  color: #fff; pointer-events: none; overflow-wrap: anywhere;
}
.ccvd-regions-note {
  position: absolute; inset: auto 8px 8px; padding: 6px 10px; border-radius: 6px; background: rgba(24, 38, 48, 0.92);
  border: 1px solid #4fc3f7; color: #fff; pointer-events: none; overflow-wrap: anywhere;
}
.ccvd-regions-panel button.icon.busy svg { animation: ccvd-regions-busy 1s ease-in-out infinite alternate; }
@keyframes ccvd-regions-busy { to { opacity: 0.25; } }
.ccvd-regions-damaged {
  position: absolute; inset: auto 8px 8px; max-height: calc(100% - 16px); overflow: auto; padding: 8px 10px; border-radius: 6px;
  background: #4a1f22; border: 1px solid #b3474d; color: #ffe3e3; user-select: text;
}
.ccvd-regions-damaged p { margin: 0 0 6px; overflow-wrap: anywhere; }
.ccvd-regions-damaged button {
  margin-right: 6px; padding: 3px 8px; border: 1px solid #b3474d; border-radius: 4px; background: none; color: inherit; cursor: pointer;
}
.ccvd-regions-track { position: relative; flex: 1; height: 24px; min-width: 40px; }
.ccvd-regions-track input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; accent-color: #4fc3f7; cursor: pointer; }
.ccvd-regions-marks { position: absolute; inset: 0; pointer-events: none; }
.ccvd-regions-marks .mark {
  position: absolute; top: -1px; width: 7px; height: 7px; margin-left: -3.5px; border-radius: 1px; transform: rotate(45deg);
  pointer-events: auto; cursor: ew-resize; touch-action: none;
}
.ccvd-regions-marks .mark::before { content: ""; position: absolute; inset: -4px; }
.ccvd-regions-clock { min-width: 56px; text-align: right; font-variant-numeric: tabular-nums; opacity: 0.8; white-space: nowrap; }
.ccvd-regions-chips { display: flex; flex-wrap: wrap; gap: 3px; flex: none; max-height: 52px; overflow-y: auto; }
.ccvd-regions-chips button {
  display: flex; align-items: center; gap: 5px; max-width: 150px; height: 22px; padding: 0 8px 0 6px; border-radius: 11px;
  border: 1px solid var(--border-color, #4e4e4e); background: none; color: inherit; font: inherit; cursor: pointer;
}
.ccvd-regions-chips button span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.ccvd-regions-chips button i { width: 9px; height: 9px; border-radius: 50%; flex: none; }
.ccvd-regions-chips button svg { width: 11px; height: 11px; flex: none; opacity: 0.8; }
.ccvd-regions-chips button[aria-pressed="true"] { background: var(--comfy-input-bg, #33363f); border-color: #4fc3f7; }
.ccvd-regions-fields :is(input, select, textarea) {
  height: 24px; padding: 2px 6px; border: 1px solid transparent; border-radius: 4px; background: var(--comfy-input-bg, #2b2d35);
  color: inherit; font: inherit; min-width: 0;
}
.ccvd-regions-fields { display: flex; flex-direction: column; gap: 4px; flex: none; height: 76px; }
.ccvd-regions-fields .hint { padding: 6px 4px; opacity: 0.6; }
.ccvd-regions-fields input[type="color"] { width: 26px; padding: 2px; flex: none; cursor: pointer; }
.ccvd-regions-fields input.name { flex: 1 1 40%; }
.ccvd-regions-fields select { flex: 1 1 40%; }
.ccvd-regions-fields input.strength { width: 52px; flex: none; }
.ccvd-regions-fields textarea { flex: 1; width: 100%; resize: none; padding: 4px 6px; user-select: text; }
.ccvd-regions-fields :disabled { opacity: 0.5; }
.ccvd-regions-overlay { position: fixed; inset: 0; z-index: 9990; padding: 12px; background: rgba(10, 11, 14, 0.96); }
.ccvd-regions-overlay .ccvd-regions-panel { padding: 8px; }
`;

export function addStyle(document) {
  if (document.getElementById(ID)) return;
  const style = document.createElement("style");
  style.id = ID;
  style.textContent = CSS;
  document.head.append(style);
}
