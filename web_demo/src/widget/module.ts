// widget.mjs: for pages that import modules and write <support-chat> themselves.

import { define, SupportChat } from "./element.js";

define(import.meta.url);

export { SupportChat };
