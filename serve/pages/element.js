// Makes elements. Text is only ever set as text: what a person or a policy wrote cannot become markup here.

/** An element; attributes that start with "on" are listeners, null and false ones are left out. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** An input under its label, which `more` may follow. */
export function field(input, label, ...more) {
  return element("div", { class: "field" }, element("label", { for: input.id }, label), input, more);
}

/** What went wrong, read out as soon as it stands there. */
export function problem(...said) {
  return element("p", { class: "problem", role: "alert" }, said);
}

/** What stands in the place of a list that is empty. */
export function none(text) {
  return element("p", { class: "none" }, text);
}

/** A key's name as it is shown beside what it does. */
export function keyHint(name) {
  return element("kbd", { "aria-hidden": "true" }, name);
}
