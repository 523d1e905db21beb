// Operating: the loop at a glance, or one version with its evidence.
import { Overview } from "./overview.js";
import { VersionPage } from "./version.js";

export function show(main, { version, go }) {
  const page = version ? new VersionPage(version, go) : new Overview(go);
  main.append(page.node);
  page.start();
  return () => page.leave();
}
