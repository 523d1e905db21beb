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

/** A key's name as it is shown beside what it does. */
export function keyHint(name) {
  return element("kbd", { "aria-hidden": "true" }, name);
}
