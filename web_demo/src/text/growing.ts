// A text that grows, shown as markdown. At most one update a frame, and only the blocks that changed are made anew: a
// long answer costs no more at its end than at its beginning. A text that takes long to draw is drawn less often, so that
// the page always answers. Knows no message and no network.

import { blocksOf, rendered, type Block } from "./markdown.js";

const REST = 3; // times as long as the last update took is left to everything else

export class GrowingText {
  #text = "";
  #due = false;
  #free = 0; // when the next update may begin
  #shown: { key: string; node: HTMLElement }[] = [];

  /** Shows the text in `root`. `dress` finishes a block before it is shown; `updated` is called after each update. */
  constructor(
    private readonly root: HTMLElement,
    private readonly dress: (block: HTMLElement) => void,
    private readonly updated: () => void = () => undefined,
  ) {}

  /** Shows `text` at the next frame. */
  set(text: string): void {
    if (text === this.#text) return;
    this.#text = text;
    if (this.#due) return;
    this.#due = true;
    setTimeout(() => requestAnimationFrame(() => this.#due && this.flush()), this.#free - performance.now());
  }

  /** Shows it now. */
  flush(): void {
    const began = performance.now();
    this.#due = false;
    this.#draw(blocksOf(this.#text));
    this.updated();
    const ended = performance.now();
    this.#free = ended + REST * (ended - began);
  }

  #draw(blocks: Block[]): void {
    for (const { node } of this.#shown.splice(blocks.length)) node.remove();
    for (const [at, block] of blocks.entries()) {
      const before = this.#shown[at];
      if (before?.key === block.key) continue;
      const node = document.createElement("div");
      node.className = "block";
      node.append(rendered(block));
      this.dress(node);
      if (before) before.node.replaceWith(node);
      else this.root.append(node);
      this.#shown[at] = { key: block.key, node };
    }
  }
}
