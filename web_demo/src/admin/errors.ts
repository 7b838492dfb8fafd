// The newest refusals and failures: what was asked, what was answered, and the request's id to look for in the logs.

import { byId } from "../demo/dom.js";
import { moment } from "./format.js";
import { chip, facts, nothing, Rows } from "./parts.js";
import type { Trouble } from "./types.js";
import { element } from "../text/element.js";

export const errors = new Rows<Trouble[]>(byId("error-rows"), (found) =>
  found.length ? found.map(entry) : [nothing("No request was refused and no reply failed since the server started.")],
);

function entry(trouble: Trouble): HTMLElement {
  const status = trouble.status === null ? "Failed" : String(trouble.status);
  const own = trouble.status === null || trouble.status >= 500; // the server's fault, not the asker's
  const head = element("div", "entry-head", chip(status, own ? "bad" : ""), element("h3", "", trouble.code ?? "refused"));
  const asked = [trouble.method, trouble.path].filter(Boolean).join(" ");
  return element(
    "li",
    "entry",
    head,
    element("p", "said", trouble.message),
    facts(moment(trouble.at), asked, trouble.request_id),
  );
}
