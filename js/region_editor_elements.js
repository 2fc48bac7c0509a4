// Page elements, made and kept.

/** Make an element; `properties` are set on it, `children` appended. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Set a field unless it has that value already: writing into a field moves its caret. */
export function put(field, value) {
  if (field.value !== String(value)) field.value = value;
}
