// A table whose columns sort by a click or by keys.
import { element } from "../element.js";

/** A column of numbers, `value(row)`, which `said(value)` shows. */
export function numeric(name, value, said, title = null) {
  return { name, title, numeric: true, value, cell: (row) => said(value(row)) };
}

/** A column of estimates, `of(row)`, sorted by their value. */
export function estimated(name, of, said, title = null) {
  return { name, title, numeric: true, value: (row) => of(row)?.value, cell: (row) => said(of(row)) };
}

/** How a person sorted, by caption: by which column and whether falling. A table that is drawn anew stays as it was. */
const sortedBy = new Map();

/**
 * `columns`: `{name, title?, value(row), cell?(row), numeric?, text?}`; `value` sorts, `cell` shows (text or elements),
 * `text` may break over lines.
 * Sorted by the column `by` first, falling when `falling`; null leaves the rows in the order they come in.
 */
export function sortableTable({ caption, columns, rows, by = 0, falling = true, rowClass = () => null }) {
  let [at, down] = [by, falling];
  // A column may be missing, or stand elsewhere, in the table of another version.
  const [wanted, asked] = sortedBy.get(caption) ?? [];
  const found = columns.findIndex(({ name }) => name === wanted);
  if (found >= 0) [at, down] = [found, asked];
  const body = element("tbody");
  const heads = columns.map((column, index) =>
    element(
      "th",
      { scope: "col", class: column.numeric ? "numeric" : null },
      element("button", { type: "button", title: column.title ?? null, onclick: () => sort(index) }, column.name),
    ),
  );
  const table = element(
    "table",
    { class: "data" },
    element("caption", { class: "only-heard" }, caption),
    element("thead", {}, element("tr", {}, heads)),
    body,
  );

  function sort(index) {
    down = index === at ? !down : Boolean(columns[index].numeric);
    at = index;
    sortedBy.set(caption, [columns[at].name, down]);
    draw();
  }

  function draw() {
    const value = columns[at]?.value;
    const sorted = value ? [...rows].sort((one, other) => compare(value(one), value(other), down)) : rows;
    heads.forEach((head, index) => {
      if (index === at) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    body.replaceChildren(
      ...sorted.map((row) =>
        element(
          "tr",
          { class: rowClass(row) },
          columns.map((column, index) =>
            element(
              index === 0 ? "th" : "td",
              { scope: index === 0 ? "row" : null, class: cellClass(column) },
              (column.cell ?? column.value)(row),
            ),
          ),
        ),
      ),
    );
  }
  draw();
  return element(
    "div",
    { class: "table-frame", tabindex: "0", role: "group", "aria-label": `${caption}, as a table` },
    table,
  );
}

function cellClass({ numeric, text }) {
  if (numeric) return "numeric";
  return text ? "text" : null;
}

/** What is missing comes last, whichever way. */
function compare(one, other, down) {
  const missing = (value) => value === null || value === undefined || value === "" || Number.isNaN(value);
  if (missing(one) || missing(other)) return missing(one) - missing(other);
  const order =
    typeof one === "number" && typeof other === "number"
      ? one - other
      : String(one).localeCompare(String(other), "en", { numeric: true });
  return down ? -order : order;
}
