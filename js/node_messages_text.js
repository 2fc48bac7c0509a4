// What the pack says at its nodes, in the languages of the pack.

const EN = {
  close: "Close",
  modelElsewhere: "The positive prompt comes from Aggregate Adapters, the model does not: its concepts will not act. "
    + "Connect “model” of the same Aggregate Adapters.",
  promptElsewhere: (input) => "The model comes from Aggregate Adapters, the prompt does not: no concept will act. "
    + `Connect “conditioning” of Aggregate Adapters to “${input}”.`,
  neither: "Connect “model” and “conditioning” of Aggregate Adapters: without them no concept and no region acts.",
  plainEncoder: (name) => `<${name}> means nothing to this node. Write the prompt in Aggregate Adapters and connect its `
    + "“conditioning” instead.",
  noBrackets: (name) => `“${name}” is a concept, but without brackets it is a plain word. Write <${name}> to use it.`,
};

const ZH = {
  close: "关闭",
  modelElsewhere: "正向提示词来自“聚合适配器”，模型却不是：其中的概念不会起作用。请连接同一个“聚合适配器”的“模型”。",
  promptElsewhere: (input) => `模型来自“聚合适配器”，提示词却不是：没有概念会起作用。请把“聚合适配器”的“条件”连到 ${input}。`,
  neither: "请连接“聚合适配器”的“模型”和“条件”：否则概念和区域都不会起作用。",
  plainEncoder: (name) => `此节点不认识 <${name}>。请把提示词写在“聚合适配器”里，并改连它的“条件”。`,
  noBrackets: (name) => `“${name}”是一个概念，但不加尖括号就只是普通词。写成 <${name}> 才会使用它。`,
};

/** The texts for one of ComfyUI's languages. */
export function messagesFor(locale) {
  return String(locale ?? "").startsWith("zh") ? ZH : EN;
}
