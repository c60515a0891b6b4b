// Runs in a page before its own scripts: counts what these begin and do not end, so that a test can wait until nothing is left.
// Its one parameter is how slow the page shall be: 0 as it is, else frames come three late and replies after a while.
(slow) => {
  const SOON = 100; // ms: a longer timer is not what a reader's last move set off
  const LATE = slow ? 3 : 0; // frames
  const REPLY = slow ? 100 : 0; // ms
  const { fetch, createImageBitmap, requestAnimationFrame, cancelAnimationFrame, setTimeout, clearTimeout, MessageChannel } = window;
  const now = performance.now.bind(performance);
  const open = new Map();
  let last = 0;

  function begin(what) {
    const number = ++last;
    open.set(number, what);
    return () => open.delete(number);
  }

  function during(what, promise) {
    const end = begin(what);
    promise.then(end, end); // before whoever waits for it goes on
    return promise;
  }

  const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  window.fetch = (...asked) => during(`the request ${asked[0]}`, REPLY ? later(REPLY).then(() => fetch(...asked)) : fetch(...asked));
  window.createImageBitmap = (...given) => during("a picture", createImageBitmap(...given));
  for (const name of ["arrayBuffer", "blob", "json", "text"]) {
    const read = Response.prototype[name];
    Response.prototype[name] = function () {
      return during("an answer", read.call(this));
    };
  }

  const frames = new Map();
  window.requestAnimationFrame = (work) => {
    const frame = { end: begin("a frame"), id: 0 };
    const number = ++last;
    const come = (left) => {
      frame.id = requestAnimationFrame((time) => {
        if (left) return come(left - 1);
        frames.delete(number);
        frame.end();
        work(time);
      });
    };
    frames.set(number, frame);
    come(LATE);
    return number;
  };
  window.cancelAnimationFrame = (number) => {
    const frame = frames.get(number);
    if (!frame) return;
    frames.delete(number);
    frame.end();
    cancelAnimationFrame(frame.id);
  };

  const timers = new Map();
  window.setTimeout = (work, ms = 0, ...more) => {
    if (ms > SOON) return setTimeout(work, ms, ...more);
    const end = begin(`a timer of ${ms} ms`);
    const number = setTimeout(() => {
      timers.delete(number);
      end();
      work(...more);
    }, ms);
    timers.set(number, end);
    return number;
  };
  window.clearTimeout = (number) => {
    timers.get(number)?.();
    timers.delete(number);
    clearTimeout(number);
  };

  window.MessageChannel = class extends MessageChannel {
    constructor() {
      super();
      for (const [from, to] of [[this.port1, this.port2], [this.port2, this.port1]]) {
        const [post, ends] = [from.postMessage.bind(from), []];
        from.postMessage = (...message) => {
          ends.push(begin("a message"));
          post(...message);
        };
        to.addEventListener("message", () => ends.shift()?.());
      }
    }
  };

  // A frame also lays the page out and tells its observers, who may begin something: two of them must begin nothing.
  window.stillness = (patience) => new Promise((resolve, reject) => {
    const end = now() + patience;
    let still = 0;
    const look = () => {
      still = open.size ? 0 : still + 1;
      if (still > 2) resolve();
      else if (now() > end) reject(new Error(`the page does not come to rest: ${[...open.values()].join(", ")}`));
      else requestAnimationFrame(() => setTimeout(look));
    };
    look();
  });
}
