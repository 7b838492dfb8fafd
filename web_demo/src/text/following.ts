// Where a list that grows is scrolled: at its end, unless its reader has gone up. Knows no message.

const NEAR_PX = 48; // so far from the end still counts as being there

export class Following {
  #following = true;
  #top = 0; // where it was scrolled last: only who goes up leaves the end, not a list that grows
  readonly #sizes = new ResizeObserver(() => this.follow());

  /** `scroll` is scrolled, `content` in it grows, and `jump` is shown while the end is out of sight. */
  constructor(
    private readonly scroll: HTMLElement,
    content: HTMLElement,
    private readonly jump: HTMLElement,
  ) {
    scroll.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    jump.addEventListener("click", () => this.toEnd());
    this.#sizes.observe(scroll);
    this.#sizes.observe(content);
  }

  toEnd(): void {
    this.#following = true;
    this.jump.hidden = true;
    this.follow();
  }

  /** Something may have grown. */
  follow(): void {
    if (this.#following) this.scroll.scrollTop = this.scroll.scrollHeight;
    else this.#scrolled();
  }

  #scrolled(): void {
    const { scrollTop, scrollHeight, clientHeight } = this.scroll;
    const above = scrollHeight - clientHeight - scrollTop;
    const wentUp = scrollTop < this.#top;
    this.#top = scrollTop;
    this.#following = above < NEAR_PX || (this.#following && !wentUp);
    this.jump.hidden = this.#following;
  }
}
