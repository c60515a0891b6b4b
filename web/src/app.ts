// The page: one document in its views, and the way from one document to the next.

import { INK } from "./color";
import type { Theme } from "./color";
import { el, framed, number, put, say } from "./dom";
import { download, picture, png, svgText } from "./exporter";
import type { Doc } from "./protocol";
import { Session } from "./session";
import type { Host, Source } from "./source";
import { hashDocument, initialState, readHash, writeHash } from "./state";
import { Tab } from "./surroundings";
import type { Surroundings } from "./surroundings";
import { FinderView } from "./views/finder";
import { DifferenceView } from "./views/difference";
import { GridView } from "./views/grid";
import { HeatmapView } from "./views/heatmap";
import { isLong, Reader } from "./views/reader";
import { WorldView } from "./views/world";
import { helpDialog } from "./views/help";
import { MechanismView } from "./views/mechanism";
import { RunBar, Status } from "./views/runbar";
import { describeActive, headName, spoken } from "./views/sentences";
import { StepView } from "./views/step";
import { Stepper } from "./views/stepper";
import { Toolbar } from "./views/toolbar";
import { WordsView } from "./views/words";

interface Views {
  session: Session;
  words: WordsView;
  grid: GridView;
  finder: FinderView;
  heat: HeatmapView | WorldView;
  /** Of a long text. */
  reader: Reader | null;
  mechanism: MechanismView;
  toolbar: Toolbar;
  stepper: Stepper;
  step: StepView;
}

export class App {
  readonly status = new Status();
  private readonly title = el("span", { class: "fv-title" });
  private readonly model = el("span", { class: "fv-model" });
  private readonly message = el("h1", { class: "fv-message" });
  private readonly beside = el("div", { class: "fv-besides" });
  private readonly seen = el("p", { class: "fv-seen" });
  private readonly content = el("div", { class: "fv-content" });
  private readonly themeButton = el("button", { type: "button", class: "fv-plain", click: () => this.setTheme(this.theme === "dark" ? "light" : "dark", true) });
  private readonly help = helpDialog();
  private readonly runbar: RunBar | null;
  private views: Views | null = null;
  private theme: Theme = "light";
  private speakTimer = 0;
  private closed = false;
  private readonly keys = (event: Event) => this.key(event as KeyboardEvent);
  private readonly unfollow: () => void;

  private difference: DifferenceView | null = null;

  constructor(private readonly root: HTMLElement, private readonly host: Host | null, private readonly around: Surroundings = new Tab()) {
    this.runbar = host && new RunBar(host, this.status, (id) => this.open(host.open(id)));
    root.classList.add("fv");
    root.replaceChildren(
      el("header", { class: "fv-top" },
        el("span", { class: "fv-mark", "aria-hidden": "true" }), el("span", { class: "fv-brand" }, "foveate"), this.title, this.model, el("span", { class: "fv-spring" }),
        el("button", { type: "button", class: "fv-plain", "aria-label": "Help", title: "Help (?)", click: () => this.help.showModal() }, "?"), this.themeButton),
      ...(this.runbar ? [this.runbar.element] : []), this.status.element, this.message, this.beside, this.content, this.help);
    around.keys.addEventListener("keydown", this.keys);
    this.setTheme(around.theme(), false);
    this.unfollow = around.follow(() => this.setTheme(around.theme(), false), () => this.followHash());
  }

  close(): void {
    this.closed = true;
    this.around.keys.removeEventListener("keydown", this.keys);
    this.unfollow();
    clearTimeout(this.speakTimer);
    this.closeViews();
    this.root.replaceChildren();
  }

  private closeViews(): void {
    const { views } = this;
    this.difference?.close();
    this.difference = null;
    if (!views) return;
    for (const view of [views.session, views.words, views.grid, views.finder, views.heat, views.mechanism, views.stepper, views.step]) view.close();
    this.views = null;
  }

  /** The first document of a server, its model, and a run that may be under way. */
  async start(host: Host): Promise<void> {
    this.status.progress(NaN, "Loading …");
    const [listed, model] = await Promise.all([host.documents(), host.model()]);
    this.status.progress(null, "");
    const wanted = listed.find(({ id }) => id === hashDocument(this.around.hash)) ?? listed[0];
    if (wanted) await this.open(host.open(wanted.id));
    else say(this.message, model.run ? "" : "Type a text, and see where the model looks.");
    say(this.model, this.model.textContent || model.name);
    await this.runbar?.show(model, !wanted);
    this.ready();
  }

  async open(source: Source): Promise<void> {
    const doc = await source.document();
    if (this.closed) return;
    const session = new Session(source, doc, readHash(this.around.hash, doc, initialState(doc, this.views?.session)));
    session.theme = this.theme;
    this.closeViews();
    say(this.title, doc.title === doc.message || doc.title === doc.model ? "" : doc.title);
    say(this.model, doc.model);
    say(this.message, doc.message.replaceAll("->", "→"));
    this.message.hidden = !doc.message;
    this.message.classList.toggle("fv-long", doc.message.length > 90);
    this.beside.replaceChildren(...doc.beside.map(({ label, text }) => el("p", { class: "fv-beside" }, el("span", { class: "fv-quiet" }, `${label}: `), el("span", {}, text))));
    this.around.setTitle(`${doc.message || doc.title} · foveate`);
    this.runbar?.suggest(plainText(doc, session));
    this.build(session, doc);
    if (doc.compare && this.host) {
      this.difference = new DifferenceView(session, this.host.open(doc.compare.id), doc.compare);
      this.content.querySelector("main")?.before(this.difference.element);
    }
    session.refresh();
    session.loadThumbnails();
  }

  private build(session: Session, doc: Doc): void {
    const words = new WordsView(session);
    const heat = isLong(doc) ? new WorldView(session) : new HeatmapView(session);
    const reader = heat instanceof WorldView ? new Reader(session, words, heat) : null;
    const views: Views = {
      session, words, grid: new GridView(session), finder: new FinderView(session), heat, reader, mechanism: new MechanismView(session), stepper: new Stepper(session), step: new StepView(session),
      toolbar: new Toolbar(session, { svg: () => this.saveSvg(), png: () => void this.savePng() }),
    };
    this.views = views;
    words.element.prepend(...(reader ? [reader.bar.element] : []), views.stepper.element, this.seen);
    views.grid.element.querySelector(".fv-head")?.append(el("span", { class: "fv-spring" }), views.finder.button);
    const notes = doc.notes.map((note) => el("p", { class: "fv-note" }, note));
    const main = el("main", { class: "fv-main" }, views.grid.element, words.element, ...(reader ? [reader.list.element] : []), views.step.element, views.heat.element, views.mechanism.element);
    this.content.replaceChildren(views.toolbar.element, main, ...notes, views.finder.element);
    put(main, "data-long", reader ? "on" : "off");
    this.connect(views, main);
    arrangeViews(main, views);
    words.relayout();
    put(main, "data-layout", words.layout.kind);
    words.relayout();
    views.stepper.update();
    views.step.update();
    views.toolbar.update(words.layout.kind);
    views.grid.update();
    views.heat.update();
    views.mechanism.update();
  }

  private connect(views: Views, main: HTMLElement): void {
    const { session, words, grid, finder, heat, reader, mechanism, toolbar, stepper, step } = views;
    const keep = framed(() => {
      if (this.views?.session === session) this.around.setHash(writeHash(session.doc, session.state));
    });
    session.on("state", () => {
      arrangeViews(main, views);
      words.refresh();
      if (main.dataset.layout !== words.layout.kind) {
        put(main, "data-layout", words.layout.kind);
        words.relayout();
      }
      stepper.update();
      step.update();
      toolbar.update(words.layout.kind);
      grid.update();
      heat.update();
      mechanism.update();
      reader?.update();
      keep();
      if (session.layers.some((call) => !session.thumbnails.has(call.index))) session.loadThumbnails();
    });
    session.on("weights", () => {
      words.update();
      heat.draw();
      reader?.list.update();
      mechanism.fillBars();
      step.showWeights();
      this.tell(session);
      this.ready();
    });
    session.on("place", keep);
    session.on("pair", () => {
      mechanism.update();
      heat.draw();
    });
    session.on("thumbnails", () => {
      grid.update();
      finder.update();
      heat.draw();
    });
    session.on("theme", () => {
      words.relayout();
      grid.draw();
      finder.update();
      heat.draw();
      mechanism.draw();
      step.draw();
      reader?.list.update();
      toolbar.update(words.layout.kind);
    });
    session.on("blank", (message) => grid.tell(message));
    session.on("error", (message) => this.status.fail(message));
  }

  /** The sentence above the lines, and the spoken one for a word that was chosen, not merely passed over. */
  private tell(session: Session): void {
    const seen = describeActive(session, session.state.all ? 4 : 5);
    const name = headName(session);
    if (!seen) this.seen.replaceChildren(el("span", { class: "fv-quiet" }, `Point at ${session.axes.query.grid ? "a part of the picture" : "a word"} to see where it looks in ${name}`));
    else {
      const list = seen.list.flatMap(([text, weight], n) => [n ? ", " : " ", el("strong", {}, text), ` ${number(weight)}`]);
      const mean = session.state.all ? el("span", { class: "fv-quiet" }, ` · mean of ${session.heads.length} heads`) : null;
      this.seen.replaceChildren(el("strong", { class: "fv-who" }, seen.who), ` ${seen.verb}`, ...list, ...(mean ? [mean] : []));
    }
    if (session.state.cursor === null) return;
    clearTimeout(this.speakTimer);
    this.speakTimer = window.setTimeout(() => say(this.status.live, spoken(session)), 200);
  }

  private ready(): void {
    if (this.root.dataset.ready) return;
    requestAnimationFrame(() => {
      if (this.root.dataset.ready) return;
      this.root.dataset.ready = "true";
      performance.mark("foveate-interactive");
    });
  }

  private followHash(): void {
    const session = this.views?.session;
    if (!session || this.around.hash.slice(1) === writeHash(session.doc, session.state)) return;
    session.set(readHash(this.around.hash, session.doc, session.state));
  }

  private setTheme(theme: Theme, chosen: boolean): void {
    this.theme = theme;
    put(this.root, "data-theme", theme);
    this.around.setTheme(theme, chosen);
    say(this.themeButton, theme === "dark" ? "Light" : "Dark");
    if (!this.views) return;
    this.views.session.theme = theme;
    this.views.session.emit("theme");
  }

  private figure(): SVGSVGElement | null {
    if (!this.views) return null;
    const pane = this.views.words.element.querySelector(".fv-pane") as HTMLElement;
    return picture(this.views.session, this.views.words.layout, pane.scrollTop, pane.clientHeight);
  }

  private saveSvg(): void {
    const figure = this.figure();
    if (figure) download(new Blob([svgText(figure)], { type: "image/svg+xml" }), "foveate.svg");
  }

  private async savePng(): Promise<void> {
    const figure = this.figure();
    const heat = this.views?.heat;
    if (!figure || !heat) return;
    try {
      download(await png(figure, (scale) => heat.picture(scale), INK[this.theme].panel), "foveate.png");
    } catch (error) {
      this.status.fail(`The picture could not be saved: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  private key(event: KeyboardEvent): void {
    const { views } = this;
    const target = event.target as HTMLElement;
    if (!views || this.help.open || views.finder.element.open) return;
    if (views.reader && !views.reader.bar.element.hidden && searches(event)) {
      event.preventDefault();
      return views.reader.bar.focus();
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (target.matches("textarea, select, input[type=text], input[type=search]")) return;
    const { session, words } = views;
    const inWords = target.closest(".fv-words") !== null || target === document.body;
    const act = this.shortcut(event.key, session) ?? (inWords ? wordKey(event.key, session, words) : null);
    if (!act) return;
    event.preventDefault();
    act();
  }

  private shortcut(key: string, session: Session): (() => void) | null {
    const { state } = session;
    const layer = (step: number) => () => {
      const { layers, call } = session;
      const next = layers[layers.indexOf(call) + step];
      if (next) session.set({ call: next.index });
    };
    const head = (step: number) => () => session.set({ head: (state.head + step + session.call.heads) % session.call.heads });
    const actions: Record<string, () => void> = {
      Escape: () => session.set({ locked: false, cursor: null, other: null }),
      h: () => session.set({ all: !state.all }),
      d: () => session.set({ direction: state.direction === "reads" ? "read_by" : "reads" }),
      w: () => session.set({ level: state.level === "word" ? "token" : "word" }),
      s: () => session.set({ special: !state.special }),
      f: () => this.views?.finder.open(),
      o: () => this.views?.words.flipOverlay(),
      t: () => this.setTheme(this.theme === "dark" ? "light" : "dark", true),
      "[": layer(-1), "]": layer(1), ",": head(-1), ".": head(1),
      "?": () => this.help.showModal(),
    };
    return actions[key] ?? null;
  }
}

/** Of a text of which only a part is in the page, the page itself must do what a browser does. */
function searches(event: KeyboardEvent): boolean {
  if ((event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey) return event.key === "f";
  return event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && !(event.target as HTMLElement).matches("textarea, select, input:not([type=checkbox], [type=range])");
}

function wordKey(key: string, session: Session, words: WordsView): (() => void) | null {
  if (/^(Arrow(Up|Down|Left|Right)|Home|End)$/.test(key)) return () => (session.step ? walk(key, session) : words.move(key));
  const { cursor, locked } = session.state;
  if ((key === "Enter" || key === " ") && cursor !== null) return () => session.set({ locked: !locked });
  return null;
}

/** While a step is shown the arrow keys go from step to step. */
function walk(key: string, session: Session): void {
  const far = session.steps.length;
  const steps: Record<string, number> = { Home: -far, End: far, ArrowLeft: -1, ArrowUp: -1 };
  session.walk(steps[key] ?? 1);
}

/** Where the parts stand: a model of one head needs nothing to choose it with, and a step is shown where there is one. */
function arrangeViews(main: HTMLElement, { session, grid, step }: Views): void {
  const one = session.layers.length === 1 && session.call.heads === 1;
  grid.element.hidden = one;
  step.element.hidden = !session.step;
  put(main, "data-grid", one ? "off" : "on");
  put(main, "data-step", session.step ? "on" : "off");
}

/** The text of a document as it was typed, where its title is all of it, or as it may have been. */
function plainText(doc: Doc, session: Session): string {
  const texts = doc.sequences[session.state.sequence];
  const tokens = texts?.picture ? texts.target : texts?.source; // of a picture the words that read it
  if (!tokens) return "";
  let text = "";
  tokens.text.forEach((token, i) => {
    if (tokens.special[i]) return;
    const tight = !text || tokens.word[i] === tokens.word[i - 1] || /^[.,;:!?)\]}%…’”]/.test(token);
    text += (tight ? "" : " ") + token;
  });
  const bare = (one: string) => one.replace(/\s/g, "");
  return bare(text) === bare(doc.title) ? doc.title : text;
}
