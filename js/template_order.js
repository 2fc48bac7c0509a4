// The template browser lists a pack's workflows as the file system does, in no order: ours by name, the easiest first.

import { api } from "../../scripts/api.js";

/** The folder of this pack inside custom_nodes: /extensions/<folder>/template_order.js. */
const PACK = decodeURIComponent(new URL(import.meta.url).pathname.split("/").at(-2));

const list = api.getWorkflowTemplates;
api.getWorkflowTemplates = async function getWorkflowTemplates(...rest) {
  const templates = await list.apply(this, rest);
  templates[PACK]?.sort((one, other) => one.localeCompare(other, "en", { numeric: true }));
  return templates;
};
