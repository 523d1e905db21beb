// The gate for prompts that are unlike those that people judged helpfulness on: how well it tells them, before and after examples.
import { element } from "../element.js";
import { figure, share, whole } from "./figures.js";
import { headline, help, section } from "./section.js";
import { numeric, sortableTable } from "./sortable.js";

const KINDS = {
  ordinary: ["Ordinary", "Held-out prompts that people judged helpfulness on"],
  harmful: ["Harmful", "Held-out prompts that were judged under harmless"],
  odd: ["Odd", "A fixed list of what nobody asks"],
};

export function strangePromptsSection(found) {
  if (!found.trained) return section("Strange prompts", help(`There is no gate for them: ${found.reason}.`));
  const { auroc, refused } = found;
  const rows = Object.entries(KINDS).map(([kind, [name, title]]) => ({
    name,
    title,
    refused: refused?.[kind],
    auroc: auroc?.[kind],
    without: auroc?.[`${kind}_without_examples`],
  }));
  return section(
    "Strange prompts",
    help(
      "A gate that asks how far a prompt is from ordinary ones. It refuses nothing unless ",
      element("code", {}, "serve.reject_strange_prompts"),
      " is on.",
    ),
    headline([
      ["Made from", whole(found.ordinary), "ordinary prompts"],
      ["Measured on", whole(found.held_out), `other ordinary ones and ${whole(found.held_out_harmful)} harmful ones`],
      ["Examples", whole(found.examples), "of harmful prompts that it was shown"],
    ]),
    sortableTable({
      caption: "Strange prompts",
      rows,
      by: null,
      columns: [
        { name: "Prompts", value: (row) => row.name, cell: (row) => element("span", { title: row.title }, row.name) },
        numeric("Refused", (row) => row.refused, share, "Share that it would refuse"),
        numeric("AUROC", (row) => row.auroc, figure, "How well it tells them from ordinary ones; a half is chance"),
        numeric("Without examples", (row) => row.without, figure, "The same by distance alone"),
      ],
    }),
  );
}
