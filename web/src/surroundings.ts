// What lies around the component: a tab of its own here, a cell of a notebook in widget.ts. Whatever is not inside its element, it asks for here.

import { put } from "./dom";
import type { Theme } from "./color";

export interface Surroundings {
  /** Hears the keys that are meant for the component. */
  readonly keys: EventTarget;
  /** The place that an address names; nothing where there is no address. */
  readonly hash: string;
  setHash(hash: string): void;
  setTitle(title: string): void;
  theme(): Theme;
  /** The theme that is shown now, and whether a person chose it. */
  setTheme(theme: Theme, chosen: boolean): void;
  /** Calls back when somebody else changes the theme or the address; gives what ends that. */
  follow(themed: () => void, moved: () => void): () => void;
}

const THEME_KEY = "foveate-theme";

export class Tab implements Surroundings {
  readonly keys = document;
  private readonly dark = window.matchMedia?.("(prefers-color-scheme: dark)");

  get hash(): string {
    return location.hash;
  }

  setHash(hash: string): void {
    history.replaceState(null, "", `#${hash}`);
  }

  setTitle(title: string): void {
    document.title = title;
  }

  theme(): Theme {
    try {
      const kept = localStorage.getItem(THEME_KEY);
      if (kept === "light" || kept === "dark") return kept;
    } catch {
      // A file page may have no storage.
    }
    return this.dark?.matches ? "dark" : "light";
  }

  setTheme(theme: Theme, chosen: boolean): void {
    put(document.documentElement, "data-fv-theme", theme);
    if (!chosen) return;
    try {
      localStorage.setItem(THEME_KEY, theme);
    } catch {
      // Then the choice lasts as long as the page.
    }
  }

  follow(themed: () => void, moved: () => void): () => void {
    this.dark?.addEventListener("change", themed);
    window.addEventListener("hashchange", moved);
    return () => {
      this.dark?.removeEventListener("change", themed);
      window.removeEventListener("hashchange", moved);
    };
  }
}
