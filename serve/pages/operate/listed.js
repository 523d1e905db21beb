// A list of the API, shown page by page as somebody asks for more.
import { get, whyRefused } from "../api.js";
import { element } from "../element.js";
import { once } from "../focus.js";
import { whole } from "./figures.js";

const AT_ONCE = 50;

export class Listed {
  /** `path` may have a query; `table(rows)` draws what has come. */
  constructor(path, table) {
    Object.assign(this, { path, draw: table });
    this.found = [];
    this.table = element("div");
    this.moreButton = element("button", { type: "button", class: "more", onclick: () => this.more() }, "More");
    this.said = element("p", { class: "help", role: "status", tabindex: "-1" });
    this.node = element("div", { class: "stack" }, this.table, this.said, this.moreButton);
  }

  async more() {
    const focused = document.activeElement === this.moreButton;
    await once(this.moreButton, () => this.read());
    // With the last page the button goes.
    if (focused && this.moreButton.hidden) this.said.focus();
  }

  async read() {
    const after = this.last ? `&after=${encodeURIComponent(this.last)}` : "";
    const query = this.path.includes("?") ? "&" : "?";
    try {
      const page = await get(`${this.path}${query}limit=${AT_ONCE}${after}`);
      this.found.push(...page.data);
      this.last = page.last_id;
      this.moreButton.hidden = !page.has_more;
      const count = whole(this.found.length);
      this.said.textContent = page.has_more ? `The newest ${count} are shown.` : this.found.length ? `All ${count}.` : "";
      this.table.replaceChildren(this.draw(this.found));
    } catch (error) {
      this.said.textContent = `Not to be had: ${whyRefused(error)}.`;
    }
  }
}
